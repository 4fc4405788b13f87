package main

import (
	"fmt"
	"hash/fnv"
	"sort"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const digestAbove = 64 // longer values are kept as their beginning, length and hash

// A kv is one version of a key; version 0 means that the key is not there.
type kv struct {
	value                string
	create, mod, version int64
}

type keyed struct {
	key string
	kv  kv
}

// An event; before.version is 0 where there was nothing before.
type event struct {
	key        string
	rev        int64
	deleted    bool
	now        kv // of a deletion: only mod
	before     kv
	withBefore bool // the watcher asked for prev_kv
}

func digest(value []byte) string {
	if len(value) <= digestAbove {
		return string(value)
	}
	hash := fnv.New64a()
	hash.Write(value)
	return fmt.Sprintf("%s#%d#%x", value[:24], len(value), hash.Sum64())
}

func toKV(p *mvccpb.KeyValue) kv {
	if p == nil {
		return kv{}
	}
	return kv{digest(p.Value), p.CreateRevision, p.ModRevision, p.Version}
}

func toKeyed(list []*mvccpb.KeyValue) []keyed {
	var out []keyed
	for _, p := range list {
		out = append(out, keyed{string(p.Key), toKV(p)})
	}
	return out
}

func toEvent(ev *mvccpb.Event, withBefore bool) event {
	e := event{key: string(ev.Kv.Key), rev: ev.Kv.ModRevision, deleted: ev.Type == clientv3.EventTypeDelete,
		before: toKV((*mvccpb.KeyValue)(ev.PrevKv)), withBefore: withBefore}
	e.now = toKV((*mvccpb.KeyValue)(ev.Kv))
	return e
}

// A timeline is everything that happened, in order: what a watch from the first revision tells.
type timeline struct {
	first, last int64 // revisions, both included
	events      []event
	begin       []int // index in events of the first event of revision first+i
	versions    map[string][]kv
	keys        []string // sorted
}

// newTimeline expects `first` as the revision of its first event.
func newTimeline(first int64) *timeline {
	return &timeline{first: first, last: first - 1, versions: map[string][]kv{}}
}

// add takes in the next event. Every revision must be there, in order; a key changes once in each;
// versions count up; what a deletion or prev_kv speaks of must have been there.
func (t *timeline) add(e event) error {
	switch {
	case e.rev == t.last+1:
		t.begin = append(t.begin, len(t.events))
		t.last++
	case e.rev != t.last || len(t.events) == 0:
		return fmt.Errorf("revision %d follows %d", e.rev, t.last)
	}
	list := t.versions[e.key]
	var old kv
	if len(list) > 0 {
		old = list[len(list)-1]
	}
	if len(list) > 0 && old.mod == e.rev {
		return fmt.Errorf("%q changes twice in revision %d", e.key, e.rev)
	}
	if e.withBefore && e.before != alive(old) {
		return fmt.Errorf("%q at %d: prev_kv %v, but before was %v", e.key, e.rev, e.before, alive(old))
	}
	now := kv{mod: e.rev}
	if e.deleted {
		if old.version == 0 {
			return fmt.Errorf("%q deleted at %d, but it was not there", e.key, e.rev)
		}
	} else {
		now = kv{e.now.value, e.rev, e.rev, 1}
		if old.version > 0 {
			now.create, now.version = old.create, old.version+1
		}
		if e.now != now {
			return fmt.Errorf("%q at %d is %v, expected %v", e.key, e.rev, e.now, now)
		}
	}
	e.before, e.now = alive(old), now
	t.events = append(t.events, e)
	if list == nil {
		i := sort.SearchStrings(t.keys, e.key)
		t.keys = append(t.keys, "")
		copy(t.keys[i+1:], t.keys[i:])
		t.keys[i] = e.key
	}
	t.versions[e.key] = append(list, now)
	return nil
}

func alive(v kv) kv {
	if v.version == 0 {
		return kv{}
	}
	return v
}

// at is the key as it was at a revision.
func (t *timeline) at(key string, rev int64) kv {
	list := t.versions[key]
	i := sort.Search(len(list), func(i int) bool { return list[i].mod > rev })
	if i == 0 {
		return kv{}
	}
	return alive(list[i-1])
}

// of are the events of a revision.
func (t *timeline) of(rev int64) []event {
	if rev < t.first || rev > t.last {
		return nil
	}
	i := int(rev - t.first)
	if i+1 < len(t.begin) {
		return t.events[t.begin[i]:t.begin[i+1]]
	}
	return t.events[t.begin[i]:]
}

// --- requests, and what they must answer ---

type actionKind int

const (
	actGet actionKind = iota
	actPut
	actDelete
)

type action struct {
	kind     actionKind
	key, end string // end: gets only
	value    string // what digest makes of it
	bytes    []byte
	prev     bool
}

type compare struct {
	key    string
	target byte // m: mod_revision, v: version, V: value
	op     string
	number int64
	text   string
}

// A request is a txn; what is not one has no compares and one action.
type request struct {
	txn       bool
	serial    bool // serializable
	compares  []compare
	then, els []action
}

type result struct {
	kvs     []keyed // what was read, or was before
	deleted int64
}

type response struct {
	succeeded bool
	rev       int64
	results   []result
}

func (c *compare) holds(v kv) bool {
	var order int
	switch c.target {
	case 'm':
		order = cmp(v.mod, c.number)
	case 'v':
		order = cmp(v.version, c.number)
	default:
		if v.version == 0 {
			return false // etcd: a key that is not there has no value
		}
		order = -1
		if v.value == c.text {
			order = 0
		} else if v.value > c.text {
			order = 1
		}
	}
	switch c.op {
	case "=":
		return order == 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	}
	return order != 0
}

func cmp(a, b int64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (r *request) branch(succeeded bool) []action {
	if succeeded {
		return r.then
	}
	return r.els
}

// wrote says whether it made a revision, as its own answer tells.
func (r *request) wrote(answer *response) bool {
	for i, a := range r.branch(answer.succeeded) {
		if a.kind == actPut || (a.kind == actDelete && answer.results[i].deleted > 0) {
			return true
		}
	}
	return false
}

// A view is the contents at a revision, and on top of it what a txn has done so far.
type view struct {
	t    *timeline
	rev  int64
	over map[string]kv
}

func (v *view) get(key string) kv {
	if found, ok := v.over[key]; ok {
		return alive(found)
	}
	return v.t.at(key, v.rev)
}

func (v *view) scan(key, end string) []keyed {
	var out []keyed
	if end == "" {
		if found := v.get(key); found.version > 0 {
			out = append(out, keyed{key, found})
		}
		return out
	}
	keys := v.t.keys
	for k := range v.over {
		if v.t.versions[k] == nil {
			keys = append(append([]string(nil), keys...), k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		if k >= key && k < end {
			if found := v.get(k); found.version > 0 {
				out = append(out, keyed{k, found})
			}
		}
	}
	return out
}

// execute says what a request answers when it is done on the contents of a revision, as revision own,
// and the events that it makes.
func execute(t *timeline, r *request, on, own int64) (*response, []event) {
	v := &view{t: t, rev: on, over: map[string]kv{}}
	answer := &response{succeeded: true, rev: own}
	for _, c := range r.compares {
		if !c.holds(v.get(c.key)) {
			answer.succeeded = false
		}
	}
	var events []event
	for _, a := range r.branch(answer.succeeded) {
		var res result
		old := v.get(a.key)
		switch a.kind {
		case actGet:
			res.kvs = v.scan(a.key, a.end)
		case actPut:
			now := kv{a.value, own, own, 1}
			if old.version > 0 {
				now.create, now.version = old.create, old.version+1
			}
			v.over[a.key] = now
			events = append(events, event{key: a.key, rev: own, now: now, before: old})
		case actDelete:
			if old.version > 0 {
				res.deleted = 1
				v.over[a.key] = kv{mod: own}
				events = append(events, event{key: a.key, rev: own, deleted: true, now: kv{mod: own},
					before: old})
			}
		}
		if a.prev && a.kind != actGet && old.version > 0 {
			res.kvs = []keyed{{a.key, old}}
		}
		answer.results = append(answer.results, res)
	}
	return answer, events
}

func sameResults(a, b []result) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].deleted != b[i].deleted || len(a[i].kvs) != len(b[i].kvs) {
			return false
		}
		for j := range a[i].kvs {
			if a[i].kvs[j] != b[i].kvs[j] {
				return false
			}
		}
	}
	return true
}

func sameEvents(a, b []event) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].key != b[i].key || a[i].rev != b[i].rev || a[i].deleted != b[i].deleted ||
			a[i].now != b[i].now || a[i].before != b[i].before {
			return false
		}
	}
	return true
}
