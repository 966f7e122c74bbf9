package main

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// image is what a Containerfile says.
type image struct {
	copies     []copied
	entrypoint []string
	cmd        []string
}

// copied is a file, and where it is in the image.
type copied struct{ from, to string }

// parse reads a Containerfile that begins FROM scratch and has only COPY of files, ENTRYPOINT and
// CMD in JSON; whatever else it says is an error, so that nothing is left out unnoticed.
func parse(text string) (*image, error) {
	i := &image{}
	begun := false
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch {
		case word == "FROM" && !begun && strings.TrimSpace(rest) == "scratch":
			begun = true
		case !begun:
			err = fmt.Errorf("must begin FROM scratch")
		case word == "COPY":
			err = i.copy(strings.Fields(rest))
		case word == "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &i.entrypoint)
		case word == "CMD":
			err = json.Unmarshal([]byte(rest), &i.cmd)
		default:
			err = fmt.Errorf("%s is not understood here", word)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if !begun || len(i.copies) == 0 {
		return nil, fmt.Errorf("has no FROM scratch, or copies nothing")
	}
	return i, nil
}

// copy notes files that go into a directory.
func (i *image) copy(words []string) error {
	if len(words) < 2 || strings.HasPrefix(words[0], "-") || !strings.HasPrefix(words[len(words)-1], "/") || !strings.HasSuffix(words[len(words)-1], "/") {
		return fmt.Errorf("COPY must name files, and a directory that begins and ends with a slash")
	}
	to := words[len(words)-1]
	for _, from := range words[:len(words)-1] {
		i.copies = append(i.copies, copied{from, path.Join(to, path.Base(from))})
	}
	return nil
}
