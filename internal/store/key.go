package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// longest is how many bytes of a client identifier or of what follows it, which may be 65,535 (MQTT 5 section 1.5.4), are in a key as they are:
// bbolt takes keys of bolt.MaxKeySize.
const longest = bolt.MaxKeySize/2 - 1

// digest begins what stands for a longer one, and for one that looks like that; no UTF-8 has this byte.
const digest = "\xff"

// short is the key in the file, and whether it is another one: then the value begins with the key itself. What begins with Key(client, "") does so
// in the file, too.
func short(key string) (in string, other bool) {
	client, rest, isClients := strings.Cut(key, "\x00")
	in = shorten(client)
	if isClients {
		in = Key(in, shorten(rest))
	}
	return in, in != key
}

func shorten(part string) string {
	if len(part) <= longest && !isDigest(part) {
		return part
	}
	sum := sha256.Sum256([]byte(part))
	return digest + hex.EncodeToString(sum[:])
}

// record is what the file has for a key.
func record(key string, value []byte) (in string, sealed []byte) {
	in, other := short(key)
	if other {
		named := append(binary.AppendUvarint(nil, uint64(len(key))), key...)
		value = append(named, value...)
	}
	return in, seal(value)
}

// unrecord is the key and the value of which a record was made; both are copies.
func unrecord(in, sealed []byte) (key string, value []byte, err error) {
	if value, err = unseal(sealed); err != nil {
		return "", nil, err
	}
	client, rest, _ := strings.Cut(string(in), "\x00")
	if !isDigest(client) && !isDigest(rest) {
		return string(in), value, nil
	}
	n, at := binary.Uvarint(value)
	if at <= 0 || n > uint64(len(value)-at) {
		return "", nil, errCorrupt
	}
	key, value = string(value[at:at+int(n)]), value[at+int(n):]
	if again, other := short(key); !other || again != string(in) {
		return "", nil, errCorrupt
	}
	return key, value, nil
}

// isDigest tells what stands for a long one from anything else, also from an order of a spool, whose bytes are any.
func isDigest(rest string) bool {
	return len(rest) == len(digest)+hex.EncodedLen(sha256.Size) && strings.HasPrefix(rest, digest)
}
