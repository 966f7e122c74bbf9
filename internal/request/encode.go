package request

const upperHex = "0123456789ABCDEF"

// EncodeValue appends s percent-encoded as a CloudEvents attribute in an HTTP
// header (HTTP binding 1.0.2, section 3.1.3.2): space, '"', '%' and everything
// outside U+0021 to U+007E, each byte of its UTF-8.
func EncodeValue(dst []byte, s string) []byte {
	for i := range len(s) {
		b := s[i]
		if b <= 0x20 || b >= 0x7f || b == '"' || b == '%' {
			dst = append(dst, '%', upperHex[b>>4], upperHex[b&15])
			continue
		}
		dst = append(dst, b)
	}
	return dst
}
