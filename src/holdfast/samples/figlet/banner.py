"""Prints standard input as a banner, in figlet's standard font and its usual width."""

import sys

from pyfiglet import Figlet

text = sys.stdin.buffer.read().decode(errors="replace").rstrip("\r\n")
sys.stdout.write(Figlet(font="standard", width=80).renderText(text))
