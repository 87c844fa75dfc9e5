# Started for each request: its body is standard input, the answer is standard output, an exit code other than 0 a 500.
name=$(cat)
echo "Hello, ${name:-world}! This was a $Http_Method of $Http_Path."
