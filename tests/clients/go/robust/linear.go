package main

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// What porcupine is given of an operation: the part that concerns one key.
type keyOp struct {
	key      string
	compares []compare // on this key
	decides  bool      // there is one compare, and it is on this key
	actions  []action
	text     string
}

type keyOut struct {
	succeeded bool
	rev       int64
	writes    bool // made a revision, here or at another key
	results   []result
}

// The state of one key, and the newest revision that is known to have been reached.
type keyState struct {
	kv    kv
	floor int64
}

func (s *keyState) is(kvs []keyed, key string) bool {
	for _, got := range kvs {
		if got.key == key {
			return s.kv == got.kv
		}
	}
	return s.kv.version == 0
}

func step(s keyState, in *keyOp, out *keyOut) (bool, keyState) {
	if out.rev < s.floor || (out.writes && out.rev == s.floor) {
		return false, s
	}
	for i := range in.compares {
		holds := in.compares[i].holds(s.kv)
		if (out.succeeded && !holds) || (!out.succeeded && in.decides && holds) {
			return false, s
		}
	}
	for i, a := range in.actions {
		res := &out.results[i]
		switch a.kind {
		case actGet:
			if !s.is(res.kvs, in.key) {
				return false, s
			}
		case actPut:
			if a.prev && !s.is(res.kvs, in.key) {
				return false, s
			}
			now := kv{a.value, out.rev, out.rev, 1}
			if s.kv.version > 0 {
				now.create, now.version = s.kv.create, s.kv.version+1
			}
			s.kv = now
		case actDelete:
			if (res.deleted == 1) != (s.kv.version > 0) || (a.prev && !s.is(res.kvs, in.key)) {
				return false, s
			}
			s.kv = kv{}
		}
	}
	s.floor = out.rev
	return true, s
}

func modelFrom(initial func(key string) keyState) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return keyState{floor: -1} }, // replaced by the first step, see "start"
		Step: func(state, input, output any) (bool, any) {
			s, in, out := state.(keyState), input.(*keyOp), output.(*keyOut)
			if s.floor < 0 {
				s = initial(in.key)
			}
			ok, next := step(s, in, out)
			return ok, next
		},
		DescribeOperation: func(input, output any) string { return input.(*keyOp).text },
		DescribeState: func(state any) string {
			s := state.(keyState)
			return fmt.Sprintf("%v, revision %d", s.kv, s.floor)
		},
	}
}

// split appends, to the lists of the keys that an operation concerns, what it does there.
func split(o *op, to map[string][]porcupine.Operation) {
	if o.req.serial || o.answer == nil {
		return
	}
	touched := map[string]bool{}
	for _, c := range o.req.compares {
		touched[c.key] = true
	}
	for _, a := range o.req.branch(o.answer.succeeded) {
		if a.end == "" {
			touched[a.key] = true
		}
	}
	for key := range touched {
		in := &keyOp{key: key, text: o.String()}
		for _, c := range o.req.compares {
			if c.key == key {
				in.compares = append(in.compares, c)
			}
		}
		in.decides = len(in.compares) == 1 && len(o.req.compares) == 1
		out := &keyOut{succeeded: o.answer.succeeded, rev: o.answer.rev, writes: o.req.wrote(o.answer)}
		for i, a := range o.req.branch(o.answer.succeeded) {
			if a.key == key && a.end == "" {
				in.actions = append(in.actions, a)
				out.results = append(out.results, o.answer.results[i])
			}
		}
		to[key] = append(to[key], porcupine.Operation{ClientId: max(o.client, 0), Input: in, Call: o.call,
			Output: out, Return: o.ret})
	}
}

// checkLinear asks porcupine, key by key. `took` are writes of unknown outcome that took place, with the
// answer that would have been theirs; they may do so at any time after their begin. Those that did not
// are left out: each could be put anywhere without effect, and the search would try all their subsets.
// (A write that is left out wrongly makes the reads that saw it impossible.) `picture` is where it draws what is wrong, if anywhere.
func checkLinear(ops, took []*op, initial func(key string) keyState, patience time.Duration,
	picture func(key string) string) (keys int, wrong []string) {
	lists := map[string][]porcupine.Operation{}
	for _, o := range ops {
		split(o, lists)
	}
	for _, o := range took {
		split(o, lists)
	}
	model := modelFrom(initial)
	for key, list := range lists {
		verdict, info := porcupine.CheckOperationsVerbose(model, list, patience)
		keys++
		if verdict == porcupine.Ok {
			continue
		}
		text := fmt.Sprintf("porcupine: the %d operations on %q are %s", len(list), key, verdict)
		if picture != nil {
			path := picture(key)
			if err := porcupine.VisualizePath(model, info, path); err != nil {
				text += fmt.Sprintf(" (no picture: %v)", err)
			} else {
				text += ": " + path
			}
		}
		wrong = append(wrong, text)
	}
	return keys, wrong
}
