# A function: reads one request, keeps its body, answers it.
while read -r line; do
	line=${line%?} # its CR
	case $line in
	[Cc]ontent-[Ll]ength:*) length=${line#*: } ;;
	"") break ;;
	esac
done
head -c "$length" >/tmp/body
echo >>/tmp/body
printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
