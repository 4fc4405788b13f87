package main

import (
	"fmt"
	"math/rand"
	"strings"
	"time"

	"trivet.test/clients/internal/harness"
)

// A made-up run: operations that took place one by one, at moments between their begin and their end, on
// a store that does what etcd does.
type invention struct {
	t     *timeline
	ops   []*op
	open  []*op
	owner map[int64]*op
}

func invent(rng *rand.Rand, count int) *invention {
	v := &invention{t: newTimeline(2), owner: map[int64]*op{}}
	type slot struct {
		a    *actor
		o    *op
		done bool
	}
	shared := &run{begin: time.Now()}
	var slots []*slot
	for i := range 8 {
		slots = append(slots, &slot{a: &actor{id: i, rng: rng, run: shared, seen: map[string]kv{}}})
	}
	for clock := int64(1); len(v.ops) < count; clock++ {
		s := slots[rng.Intn(len(slots))]
		switch {
		case s.o == nil:
			s.o = &op{id: shared.nextID(), client: s.a.id, call: clock}
			s.a.compose(s.o)
			if s.o.req.serial {
				s.o.req.serial = false
			}
			s.done = false
		case !s.done:
			v.take(s.o)
			s.done = true
		default:
			s.o.ret = clock
			if rng.Intn(30) == 0 { // nobody hears of it
				s.o.ret = never
				if s.o.answer.rev == 0 || !s.o.req.wrote(s.o.answer) {
					s.o = nil
					continue
				}
				delete(v.owner, s.o.answer.rev)
				s.o.answer = nil
				v.open = append(v.open, s.o)
			} else {
				s.a.learn(s.o)
			}
			v.ops = append(v.ops, s.o)
			s.o = nil
		}
	}
	// What never came to an end may have taken place as well.
	for _, s := range slots {
		if s.o != nil && s.done && s.o.req.wrote(s.o.answer) {
			delete(v.owner, s.o.answer.rev)
			s.o.answer, s.o.ret = nil, never
			v.open = append(v.open, s.o)
			v.ops = append(v.ops, s.o)
		}
	}
	return v
}

func (v *invention) take(o *op) {
	answer, events := execute(v.t, &o.req, v.t.last, v.t.last+1)
	if !o.req.wrote(answer) {
		answer, _ = execute(v.t, &o.req, v.t.last, max(v.t.last, 1))
	}
	for _, e := range events {
		e.withBefore = true
		if err := v.t.add(e); err != nil {
			panic(err)
		}
	}
	o.answer = answer
	if len(events) > 0 {
		v.owner[answer.rev] = o
	}
}

// complaints of all judges of the operations.
func (v *invention) complaints() (byHistory, byPorcupine []string) {
	took, byHistory := checkHistory(v.t, v.ops, v.open, nil, 1)
	_, byPorcupine = checkLinear(v.ops, took, func(string) keyState { return keyState{floor: 1} }, time.Minute,
		nil)
	return byHistory, byPorcupine
}

// pick returns a random acknowledged operation for which a condition holds.
func (v *invention) pick(rng *rand.Rand, want func(o *op) bool) *op {
	for {
		if o := v.ops[rng.Intn(len(v.ops))]; o.answer != nil && o.client >= 0 && want(o) {
			return o
		}
	}
}

// wasRead: some get of one key was answered with what this revision wrote.
func (v *invention) wasRead(rev int64) bool {
	for _, o := range v.ops {
		if o.answer != nil && isGet(o) && o.answer.results[0].kvs[0].kv.mod == rev {
			return true
		}
	}
	return false
}

func isPut(o *op) bool {
	return !o.req.txn && o.req.then[0].kind == actPut
}

func isGet(o *op) bool {
	return !o.req.txn && o.req.then[0].kind == actGet && o.req.then[0].end == "" &&
		len(o.answer.results[0].kvs) == 1 && o.answer.results[0].kvs[0].kv.version > 1
}

// A lie makes a history wrong; porcupine says that it must be seen without knowledge of the revisions.
type lie struct {
	name      string
	porcupine bool
	tell      func(v *invention, rng *rand.Rand)
}

var lies = []lie{
	{"a write that was acknowledged is lost", true, func(v *invention, rng *rand.Rand) {
		// Acknowledged with a revision that is another's; nobody ever sees its value.
		o := v.pick(rng, func(o *op) bool { return isPut(o) && v.wasRead(o.answer.rev) })
		o.req.then[0].value = "lost"
	}},
	{"a stale read", true, func(v *invention, rng *rand.Rand) {
		for {
			o := v.pick(rng, isGet)
			got := &o.answer.results[0].kvs[0]
			old := v.t.at(got.key, got.kv.mod-1)
			if old.version == 0 || v.owner[got.kv.mod] == nil || v.owner[got.kv.mod].ret >= o.call {
				continue
			}
			got.kv = old
			o.answer.rev = old.mod
			return
		}
	}},
	{"a read of a value that nobody wrote", true, func(v *invention, rng *rand.Rand) {
		v.pick(rng, isGet).answer.results[0].kvs[0].kv.value = "invented"
	}},
	{"a wrong version", true, func(v *invention, rng *rand.Rand) {
		v.pick(rng, isGet).answer.results[0].kvs[0].kv.version++
	}},
	{"a wrong create_revision", true, func(v *invention, rng *rand.Rand) {
		v.pick(rng, isGet).answer.results[0].kvs[0].kv.create--
	}},
	{"a compare-and-swap that succeeded against what was there", true, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, func(o *op) bool {
			return len(o.req.compares) == 1 && o.answer.succeeded && len(o.req.then) == 1 &&
				o.req.compares[0].target == 'm' && o.req.compares[0].number > 0
		})
		o.req.compares[0].number--
	}},
	{"a compare-and-swap that failed although it held", true, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, func(o *op) bool {
			return len(o.req.compares) == 1 && !o.answer.succeeded && len(o.req.then) == 1 &&
				o.req.compares[0].target == 'm' && len(o.answer.results[0].kvs) == 1
		})
		o.req.compares[0].number = o.answer.results[0].kvs[0].kv.mod
	}},
	{"a wrong prev_kv of a put", true, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, func(o *op) bool { return isPut(o) && len(o.answer.results[0].kvs) == 1 })
		o.answer.results[0].kvs[0].kv.value = "another"
	}},
	{"a revision before one that was answered", true, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, func(o *op) bool { return isGet(o) && o.answer.rev > 10 })
		o.answer.rev = o.answer.results[0].kvs[0].kv.mod - 1
	}},
	{"a range in which two moments are mixed", false, func(v *invention, rng *rand.Rand) {
		for {
			o := v.pick(rng, func(o *op) bool {
				return !o.req.txn && o.req.then[0].end != "" && len(o.answer.results[0].kvs) > 3
			})
			got := &o.answer.results[0].kvs[rng.Intn(3)]
			if old := v.t.at(got.key, got.kv.mod-1); old.version > 0 {
				got.kv = old
				return
			}
		}
	}},
	{"a write that was done twice", false, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, isPut)
		_, events := execute(v.t, &o.req, v.t.last, v.t.last+1)
		_ = v.t.add(events[0])
	}},
	{"a revision that nobody made", false, func(v *invention, rng *rand.Rand) {
		r := request{then: []action{{kind: actPut, key: keyName(1), value: "ghost"}}}
		_, events := execute(v.t, &r, v.t.last, v.t.last+1)
		_ = v.t.add(events[0])
	}},
	{"half of a txn", false, func(v *invention, rng *rand.Rand) {
		o := v.pick(rng, func(o *op) bool { return len(v.t.of(o.answer.rev)) > 1 && v.owner[o.answer.rev] == o })
		t := newTimeline(2)
		for _, e := range v.t.events {
			if e.rev == o.answer.rev && e.key == v.t.of(e.rev)[0].key {
				continue
			}
			// Versions of the key that lost an event no longer fit; the judge is to see it, not add().
			e.withBefore = false
			if t.add(e) != nil {
				break
			}
		}
		v.t = t
	}},
}

// --- watchers ---

type watchLie struct {
	name string
	want wish
	tell func(list [][]event, marks map[int]int64, rng *rand.Rand) [][]event
}

var everythingWish = wish{name: "selftest", key: "\x00", end: "\xff", prev: true, fragment: true}

// middle is an index of a message that is neither the first nor the last.
func middle(list [][]event, rng *rand.Rand) int { return 1 + rng.Intn(len(list)-2) }

var watchLies = []watchLie{
	{"a missing event", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		l[i] = l[i][1:]
		return l
	}},
	{"the last event is missing", everythingWish, func(l [][]event, m map[int]int64, rng *rand.Rand) [][]event {
		n := len(l) - 1
		m[n] = l[n][0].rev // a bookmark claims it
		l[n] = l[n][1:]
		return l
	}},
	{"a missing revision", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		return append(l[:i], l[i+1:]...)
	}},
	{"a repeated event", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		l[i] = append(append([]event{}, l[i]...), l[i][0])
		return l
	}},
	{"a repeated message", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		return append(l[:i], append([][]event{l[i]}, l[i:]...)...)
	}},
	{"two revisions in the wrong order", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		l[i], l[i+1] = l[i+1], l[i]
		return l
	}},
	{"the events of a revision in the wrong order", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		for {
			i := middle(l, rng)
			if len(l[i]) > 1 {
				e := append([]event{}, l[i]...)
				e[0], e[1] = e[1], e[0]
				l[i] = e
				return l
			}
		}
	}},
	{"a revision in two messages", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		for {
			i := middle(l, rng)
			if len(l[i]) > 1 {
				rest := append([][]event{l[i][:1], l[i][1:]}, l[i+1:]...)
				return append(l[:i], rest...)
			}
		}
	}},
	{"a wrong prev_kv", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		l[i] = append([]event{}, l[i]...)
		l[i][0].before.version++
		return l
	}},
	{"a wrong value", everythingWish, func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		l[i] = append([]event{}, l[i]...)
		l[i][0].now.value += "!"
		return l
	}},
	{"an event after a bookmark that covers it", everythingWish, func(l [][]event, m map[int]int64, rng *rand.Rand) [][]event {
		i := middle(l, rng)
		m[i] = l[i][0].rev
		return l
	}},
	{"an event of another key", wish{name: "selftest", key: keyName(0), prev: true},
		func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
			i := middle(l, rng)
			l[i] = append([]event{}, l[i]...)
			l[i][0].key = keyName(1)
			return l
		}},
	{"a deletion although there is a filter", wish{name: "selftest", key: keyPrefix, end: keyEnd, noDel: true},
		func(l [][]event, _ map[int]int64, rng *rand.Rand) [][]event {
			i := middle(l, rng)
			e := l[i][0]
			e.deleted = true
			return append(l[:i], append([][]event{{e}}, l[i+1:]...)...)
		}},
}

// messages are what a watcher of a wish is sent: one for each revision.
func messages(t *timeline, w *wish) [][]event {
	var list [][]event
	for rev := t.first; rev <= t.last; rev++ {
		var part []event
		for _, e := range t.of(rev) {
			if w.wants(&e) {
				if !w.prev {
					e.before = kv{}
				}
				part = append(part, e)
			}
		}
		if part != nil {
			list = append(list, part)
		}
	}
	return list
}

func watched(t *timeline, w wish, list [][]event, marks map[int]int64, rng *rand.Rand) []string {
	r := &record{wish: w, start: 1}
	for i, events := range list {
		if rev, ok := marks[i]; ok {
			r.bookmark(rev)
		}
		if w.fragment && len(events) > 1 && rng.Intn(2) == 0 {
			if rng.Intn(2) == 0 { // the connection goes in between, and all of it comes again
				r.message(events[:1], true)
				r.disconnected()
			}
			r.message(events[:1], true)
			events = events[1:]
		}
		r.message(events, false)
		if i == len(list)/2 { // a check in between
			r.judge(t, r.newest)
		}
	}
	r.judge(t, t.last)
	return r.wrong
}

func selftest(seed int64) {
	rng := rand.New(rand.NewSource(seed))
	var tally harness.Tally
	expect := func(name string, found, want bool, texts []string) {
		if found != want {
			tally.Fail("%s: complaints %q", name, strings.Join(texts, "; "))
		} else {
			tally.Pass()
		}
	}
	for i := range 10 {
		v := invent(rng, 2000)
		a, b := v.complaints()
		expect(fmt.Sprintf("true history %d, by revisions", i), len(a) > 0, false, a)
		expect(fmt.Sprintf("true history %d, by porcupine", i), len(b) > 0, false, b)
		for _, l := range watchLies {
			list := messages(v.t, &l.want)
			marks := map[int]int64{0: 1, len(list) / 3: list[len(list)/3][0].rev - 1}
			wrong := watched(v.t, l.want, list, marks, rng)
			expect("true events", len(wrong) > 0, false, wrong)
		}
	}
	for range 5 {
		for _, l := range lies {
			v := invent(rng, 2000)
			l.tell(v, rng)
			a, b := v.complaints()
			expect(l.name+", by revisions", len(a) > 0, true, a)
			if l.porcupine {
				expect(l.name+", by porcupine", len(b) > 0, true, b)
			}
		}
		for _, l := range watchLies {
			v := invent(rng, 2000)
			marks := map[int]int64{}
			list := l.tell(messages(v.t, &l.want), marks, rng)
			wrong := watched(v.t, l.want, list, marks, rng)
			expect(l.name, len(wrong) > 0, true, wrong)
		}
	}
	tally.Finish()
}
