package main

import (
	"fmt"
	"sort"
	"strings"
)

const never = int64(1) << 62 // the return of an operation whose outcome nobody knows

// An op is one operation of a client, begun and ended at nanoseconds since the start. answer is nil while
// nobody knows whether it took place.
type op struct {
	id, client int
	call, ret  int64
	req        request
	answer     *response
	err        string
}

// What a watcher saw by a point in time: a revision that was committed before it.
type sighting struct {
	at, rev int64
}

func (o *op) String() string {
	var parts []string
	for _, c := range o.req.compares {
		parts = append(parts, fmt.Sprintf("if %s %c%s%d%s", c.key, c.target, c.op, c.number, c.text))
	}
	names := [...]string{"get", "put", "del"}
	for i, list := range [][]action{o.req.then, o.req.els} {
		if i == 1 && len(list) > 0 {
			parts = append(parts, "else")
		}
		for _, a := range list {
			parts = append(parts, strings.TrimSpace(names[a.kind]+" "+a.key+" "+a.value))
		}
	}
	text := strings.Join(parts, " ")
	if o.answer == nil {
		return text + " -> ? " + o.err
	}
	return fmt.Sprintf("%s -> %v @%d %v", text, o.answer.succeeded, o.answer.rev, o.answer.results)
}

// checkHistory judges operations by the revisions that their answers tell: each answer must be exactly
// what the timeline says of that revision, each revision must be somebody's, once, and time must not run
// backwards: what begins after another's end has a later revision, or the same when it only reads. `open`
// are writes of unknown outcome, of this and earlier rounds; those that turn out to have taken place are
// returned, with what they would have been answered. `from` is the revision that was current when the round began.
func checkHistory(t *timeline, ops, open []*op, seen []sighting, from int64) (took []*op, wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	owner := map[int64]*op{}
	for _, o := range ops {
		if o.answer == nil {
			continue
		}
		if o.answer.rev > t.last {
			complain("op %d answers revision %d, the last there is is %d: %v", o.id, o.answer.rev, t.last, o)
			continue
		}
		on := o.answer.rev
		writes := o.req.wrote(o.answer)
		if writes {
			on--
		}
		want, events := execute(t, &o.req, on, o.answer.rev)
		if want.succeeded != o.answer.succeeded || !sameResults(want.results, o.answer.results) {
			complain("op %d: %v; by the history of revisions it is %v %v", o.id, o, want.succeeded,
				want.results)
			continue
		}
		if !writes {
			continue
		}
		if got := t.of(o.answer.rev); !sameEvents(events, got) {
			complain("op %d: %v; but the events of this revision are %v", o.id, o, got)
		}
		if other := owner[o.answer.rev]; other != nil {
			complain("revision %d was told to two: %v and %v", o.answer.rev, other, o)
		}
		owner[o.answer.rev] = o
	}
	took = findOwners(t, owner, open, from, complain)
	checkOrder(t, ops, owner, seen, from, complain)
	return took, wrong
}

// findOwners asks of every revision that nobody was told whether an operation in doubt can have made it.
func findOwners(t *timeline, owner map[int64]*op, open []*op, from int64,
	complain func(string, ...any)) (took []*op) {
	used := map[*op]bool{}
	open = append([]*op(nil), open...) // what began first can have made whatever a later one can
	sort.Slice(open, func(i, j int) bool { return open[i].call < open[j].call })
	for rev := from + 1; rev <= t.last; rev++ {
		if owner[rev] != nil {
			continue
		}
		events := t.of(rev)
		for _, o := range open {
			if used[o] {
				continue
			}
			if answer, want := execute(t, &o.req, rev-1, rev); sameEvents(want, events) {
				owner[rev] = o
				used[o] = true
				known := *o
				known.answer = answer
				took = append(took, &known)
				break
			}
		}
		if owner[rev] == nil {
			complain("nobody can have made revision %d: %v", rev, events)
		}
	}
	return took
}

func checkOrder(t *timeline, ops []*op, owner map[int64]*op, seen []sighting, from int64,
	complain func(string, ...any)) {
	ends := append([]sighting(nil), seen...)
	var begins []*op
	revs := map[*op]int64{}
	for rev, o := range owner {
		revs[o] = rev
	}
	for _, o := range ops {
		if o.answer != nil {
			if !o.req.serial {
				ends = append(ends, sighting{o.ret, o.answer.rev})
				begins = append(begins, o)
			}
		} else if revs[o] != 0 {
			begins = append(begins, o)
		}
	}
	sort.Slice(ends, func(i, j int) bool { return ends[i].at < ends[j].at })
	sort.Slice(begins, func(i, j int) bool { return begins[i].call < begins[j].call })
	newest, next := from, 0
	for _, o := range begins {
		for next < len(ends) && ends[next].at < o.call {
			newest = max(newest, ends[next].rev)
			next++
		}
		rev, writes := revs[o], revs[o] != 0
		if !writes {
			rev = o.answer.rev
		}
		if rev < newest || (writes && rev == newest) {
			complain("op %d has revision %d, but began when %d had been answered: %v", o.id, rev, newest, o)
		}
	}
}
