package main

import (
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A step of a history: data, and nothing that depends on answers, so that a history can be kept, played
// again, and played without some of its steps.
type step struct {
	Kind     string `json:"kind"`
	Method   string `json:"method,omitempty"`
	Message  []byte `json:"message,omitempty"` // a request, encoded, with numbers that stand for revisions
	Identity int    `json:"identity,omitempty"`
	Stream   int    `json:"stream,omitempty"` // of watches
	Hard     bool   `json:"hard,omitempty"`   // of a restart: kill
}

const (
	stepCall    = "call"
	stepRaw     = "raw"     // Message as it is, whether it decodes or not
	stepLogin   = "login"   // an AuthenticateRequest; Identity has the token from then on
	stepWatch   = "watch"   // a WatchRequest on a stream, which is opened when it is not there
	stepSync    = "sync"    // all streams are told everything; what they were told is compared
	stepClose   = "close"   // the end of a stream
	stepRestart = "restart" // of the servers
)

// Revisions are not known when a history is made: numbers near these stand for one relative to the
// current and to the compacted revision.
const (
	currentRevision   = -(int64(1) << 50)
	compactedRevision = -(int64(1) << 51)
	relativeMax       = int64(1) << 20
)

func resolve(number, current, compacted int64) int64 {
	switch {
	case number > currentRevision-relativeMax && number < currentRevision+relativeMax:
		return current + number - currentRevision
	case number > compactedRevision-relativeMax && number < compactedRevision+relativeMax:
		return compacted + number - compactedRevision
	}
	return number
}

// resolveAll puts real revisions in their place, in a message and all that is in it.
func resolveAll(m protoreflect.Message, current, compacted int64) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			for i := 0; i < value.List().Len(); i++ {
				resolveAll(value.List().Get(i).Message(), current, compacted)
			}
		case field.IsList():
		case field.Kind() == protoreflect.MessageKind:
			resolveAll(value.Message(), current, compacted)
		case field.Kind() == protoreflect.Int64Kind:
			m.Set(field, protoreflect.ValueOfInt64(resolve(value.Int(), current, compacted)))
		}
		return true
	})
}

func (s *step) request(current, compacted int64) proto.Message {
	request := methods[s.Method].request()
	if err := proto.Unmarshal(s.Message, request); err != nil {
		panic(err) // we encoded it
	}
	resolveAll(request.ProtoReflect(), current, compacted)
	return request
}

func (s *step) String() string {
	text := s.Kind
	if s.Identity != 0 {
		text += fmt.Sprintf(" as %s", identityNames[s.Identity])
	}
	switch s.Kind {
	case stepCall, stepLogin, stepWatch:
		text += fmt.Sprintf(" %s {%s}", s.Method, brief(s.request(currentRevision, compactedRevision)))
	case stepRaw:
		text += fmt.Sprintf(" %s %x", s.Method, s.Message)
	}
	if s.Kind == stepWatch || s.Kind == stepClose {
		text += fmt.Sprintf(" stream %d", s.Stream)
	}
	return text
}

func brief(m proto.Message) string {
	if m == nil {
		return ""
	}
	text := prototext.MarshalOptions{}.Format(m)
	if len(text) > 2000 {
		text = text[:2000] + " ..."
	}
	return text
}

func save(path string, steps []step) error {
	text, err := json.MarshalIndent(steps, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

func load(path string) ([]step, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var steps []step
	return steps, json.Unmarshal(text, &steps)
}
