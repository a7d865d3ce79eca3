package tsp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of an XML message, far above what is in use: a full broker list has about
// a hundred tags, the grammar is five elements deep and no element has more than
// five attributes.
const (
	maxTags    = 1024 // start and end tags together
	maxDepth   = 8
	maxAttrs   = 16   // equals signs between one < and the next
	maxContent = 4096 // bytes of text in one element, white space included
)

// element is one element of a message.
type element struct {
	name  string
	attrs []xml.Attr
	text  string // without white space around it
	kids  []*element
}

// parseXML decodes a message of one element.
func parseXML(doc []byte) (*element, error) {
	doc = bytes.Trim(doc, "\x00 \t\r\n")
	if err := checkXML(doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	d := xml.NewDecoder(bytes.NewReader(doc))
	root, err := topElement(d)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrMalformed, printable(err.Error())) // it may quote the peer
	}
	return root, nil
}

// checkXML refuses what could cost the decoder more than the message is worth, and
// what no message has: entities, document types, comments, CDATA.
func checkXML(doc []byte) error {
	if len(doc) > MaxMessage {
		return fmt.Errorf("more than %d bytes", MaxMessage)
	}
	if !utf8.Valid(doc) {
		return errors.New("invalid UTF-8")
	}
	tags, attrs := 0, 0
	for i, c := range doc {
		switch c {
		case '&':
			return errors.New("an entity")
		case '<':
			tags, attrs = tags+1, 0
			if i+1 < len(doc) && doc[i+1] == '!' {
				return errors.New("a document type, comment or CDATA")
			}
		case '=':
			attrs++
		}
		if tags > maxTags || attrs > maxAttrs {
			return fmt.Errorf("more than %d tags or %d attributes", maxTags, maxAttrs)
		}
	}
	return nil
}

// topElement reads the one element of a document and makes sure that nothing but
// processing instructions and white space is around it.
func topElement(d *xml.Decoder) (root *element, err error) {
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && root != nil {
			return root, nil
		}
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no element")
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if root != nil {
				return nil, errors.New("a second element")
			}
			if root, err = readElement(d, t, 1); err != nil {
				return nil, err
			}
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text outside of the element")
			}
		}
	}
}

func readElement(d *xml.Decoder, start xml.StartElement, depth int) (*element, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d elements deep", maxDepth)
	}
	e := &element{name: start.Name.Local, attrs: start.Attr}
	var text []byte
	for {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			kid, err := readElement(d, t, depth+1)
			if err != nil {
				return nil, err
			}
			e.kids = append(e.kids, kid)
		case xml.CharData:
			if len(text)+len(t) > maxContent {
				return nil, fmt.Errorf("more than %d bytes of text in an element", maxContent)
			}
			text = append(text, t...)
		case xml.EndElement:
			e.text = strings.TrimSpace(string(text))
			return e, nil
		default:
			return nil, errors.New("something else than elements and text in an element")
		}
	}
}

// attr is the value of an attribute.
func (e *element) attr(name string) (value string, ok bool) {
	for _, a := range e.attrs {
		if a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

// all are the elements of a name directly within e, which may be nil.
func (e *element) all(name string) []*element {
	if e == nil {
		return nil
	}
	var found []*element
	for _, kid := range e.kids {
		if kid.name == name {
			found = append(found, kid)
		}
	}
	return found
}

// child is the only element of a name directly within e, or nil. Two are an error:
// the peer's next message might be about the other one.
func (e *element) child(name string) (*element, error) {
	found := e.all(name)
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: %d elements %s", ErrMalformed, len(found), name)
}

// address is the text of the only address of a kind directly within e, or "".
func (e *element) address(kind string) (string, error) {
	texts := e.addresses(kind)
	switch len(texts) {
	case 0:
		return "", nil
	case 1:
		return texts[0], nil
	}
	return "", fmt.Errorf("%w: %d addresses of type %s", ErrMalformed, len(texts), kind)
}

// addresses are the texts of all addresses of a kind directly within e.
func (e *element) addresses(kind string) []string {
	var texts []string
	for _, a := range e.all("address") {
		if t, _ := a.attr("type"); t == kind {
			texts = append(texts, a.text)
		}
	}
	return texts
}
