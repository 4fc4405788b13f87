package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	keysCount   = 8
	bulkKeys    = 4
	bulkBytes   = 300 << 10 // four of these with prev_kv are more than one fragment
	keyPrefix   = "k/"
	keyEnd      = "k0"
	bulkPrefix  = "bulk/"
	markerKey   = "~marker"
	opTimeout   = 1500 * time.Millisecond
	opPause     = 18 * time.Millisecond // in the mean, between operations of a client
	pauseFailed = 30 * time.Millisecond
)

// An actor makes one operation after another, on its own endpoints. What it last saw of a key makes its
// compare-and-swaps succeed now and then.
type actor struct {
	id     int
	client *clientv3.Client
	rng    *rand.Rand
	run    *run
	seen   map[string]kv
}

func keyName(i int) string { return fmt.Sprintf("%s%d", keyPrefix, i) }

func (a *actor) live() {
	for {
		a.run.gate.RLock()
		o := &op{id: a.run.nextID(), client: a.id}
		a.compose(o)
		o.call = a.run.now()
		ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
		answer, err := a.perform(ctx, &o.req)
		cancel()
		o.ret = a.run.now()
		o.answer = answer
		if err != nil {
			o.err = err.Error()
			o.ret = never
		} else {
			a.learn(o)
		}
		a.run.took(o)
		a.run.gate.RUnlock()
		pause := time.Duration(a.rng.ExpFloat64() * float64(opPause))
		if err != nil {
			pause += pauseFailed
		}
		time.Sleep(pause)
	}
}

func (a *actor) learn(o *op) {
	for i, act := range o.req.branch(o.answer.succeeded) {
		if act.kind == actPut {
			a.seen[act.key] = kv{act.value, 0, o.answer.rev, 0}
		} else if act.kind == actGet {
			for _, got := range o.answer.results[i].kvs {
				a.seen[got.key] = got.kv
			}
		}
	}
}

func (a *actor) put(o *op, key string, serial int) action {
	value := []byte(fmt.Sprintf("%d.%d.%d", a.id, o.id, serial))
	return action{kind: actPut, key: key, value: digest(value), bytes: value, prev: a.rng.Intn(5) > 0}
}

func (a *actor) compose(o *op) {
	key := keyName(a.rng.Intn(keysCount))
	r := &o.req
	switch n := a.rng.Intn(100); {
	case n < 22:
		r.then = []action{{kind: actGet, key: key}}
	case n < 27:
		r.then = []action{{kind: actGet, key: key}}
		r.serial = true
	case n < 32:
		r.then = []action{{kind: actGet, key: keyPrefix, end: keyEnd}}
		r.serial = n == 27
	case n < 54:
		r.then = []action{a.put(o, key, 0)}
	case n < 63:
		r.then = []action{{kind: actDelete, key: key, prev: a.rng.Intn(5) > 0}}
	case n < 84:
		a.swap(o, key)
	case n < 99:
		a.several(o, key)
	case a.rng.Intn(4) > 0: // not too many of the large ones
		r.then = []action{{kind: actGet, key: bulkPrefix + "0"}}
	default:
		r.txn = true
		for i := 0; i < bulkKeys; i++ {
			value := bytes.Repeat([]byte(fmt.Sprintf("%d.%d.%d.", a.id, o.id, i)), bulkBytes/6)[:bulkBytes]
			r.then = append(r.then, action{kind: actPut, key: fmt.Sprintf("%s%d", bulkPrefix, i),
				value: digest(value), bytes: value})
		}
	}
}

// swap: if the key is as it was last seen, then put, else get.
func (a *actor) swap(o *op, key string) {
	last := a.seen[key]
	c := compare{key: key, target: 'm', op: "=", number: last.mod}
	if last.value != "" && a.rng.Intn(3) == 0 {
		c = compare{key: key, target: 'V', op: "=", text: last.value}
	}
	put := a.put(o, key, 0)
	put.prev = false
	o.req = request{txn: true, compares: []compare{c}, then: []action{put},
		els: []action{{kind: actGet, key: key}}}
}

// several keys in one txn: read, written and deleted.
func (a *actor) several(o *op, key string) {
	picks := a.rng.Perm(keysCount)[:3]
	one, two, three := keyName(picks[0]), keyName(picks[1]), keyName(picks[2])
	r := &o.req
	r.txn = true
	switch a.rng.Intn(3) {
	case 0:
		r.compares = []compare{{key: one, target: 'v', op: ">", number: 0}}
	case 1:
		r.compares = []compare{{key: one, target: 'm', op: "=", number: a.seen[one].mod},
			{key: two, target: 'm', op: "=", number: a.seen[two].mod}}
	}
	r.then = []action{{kind: actGet, key: two}, a.put(o, one, 1), a.put(o, two, 2),
		{kind: actDelete, key: three, prev: true}, {kind: actGet, key: one},
		{kind: actGet, key: keyPrefix, end: keyEnd}}
	for i := range r.then { // a put in a txn says what was before as well
		if r.then[i].kind == actPut {
			r.then[i].prev = true
		}
	}
	r.els = []action{{kind: actGet, key: one}, a.put(o, three, 3)}
}

func (act *action) op() clientv3.Op {
	var options []clientv3.OpOption
	if act.prev && act.kind != actGet {
		options = append(options, clientv3.WithPrevKV())
	}
	switch act.kind {
	case actPut:
		return clientv3.OpPut(act.key, string(act.bytes), options...)
	case actDelete:
		return clientv3.OpDelete(act.key, options...)
	}
	if act.end != "" {
		options = append(options, clientv3.WithRange(act.end))
	}
	return clientv3.OpGet(act.key, options...)
}

func (c *compare) cmp() clientv3.Cmp {
	switch c.target {
	case 'm':
		return clientv3.Compare(clientv3.ModRevision(c.key), c.op, c.number)
	case 'v':
		return clientv3.Compare(clientv3.Version(c.key), c.op, c.number)
	}
	return clientv3.Compare(clientv3.Value(c.key), c.op, c.text)
}

func (a *actor) perform(ctx context.Context, r *request) (*response, error) {
	if r.txn {
		txn := a.client.Txn(ctx)
		var compares []clientv3.Cmp
		for i := range r.compares {
			compares = append(compares, r.compares[i].cmp())
		}
		var then, els []clientv3.Op
		for i := range r.then {
			then = append(then, r.then[i].op())
		}
		for i := range r.els {
			els = append(els, r.els[i].op())
		}
		got, err := txn.If(compares...).Then(then...).Else(els...).Commit()
		if err != nil {
			return nil, err
		}
		answer := &response{succeeded: got.Succeeded, rev: got.Header.Revision}
		for _, part := range got.Responses {
			answer.results = append(answer.results, resultOf(part.GetResponseRange(), part.GetResponsePut(),
				part.GetResponseDeleteRange()))
		}
		return answer, nil
	}
	act := &r.then[0]
	switch act.kind {
	case actPut:
		got, err := a.client.Do(ctx, act.op())
		if err != nil {
			return nil, err
		}
		put := got.Put()
		return &response{true, put.Header.Revision,
			[]result{resultOf(nil, (*etcdserverpb.PutResponse)(put), nil)}}, nil
	case actDelete:
		got, err := a.client.Do(ctx, act.op())
		if err != nil {
			return nil, err
		}
		del := got.Del()
		return &response{true, del.Header.Revision,
			[]result{resultOf(nil, nil, (*etcdserverpb.DeleteRangeResponse)(del))}}, nil
	}
	var options []clientv3.OpOption
	if act.end != "" {
		options = append(options, clientv3.WithRange(act.end))
	}
	if r.serial {
		options = append(options, clientv3.WithSerializable())
	}
	got, err := a.client.Get(ctx, act.key, options...)
	if err != nil {
		return nil, err
	}
	return &response{true, got.Header.Revision, []result{{kvs: toKeyed(got.Kvs)}}}, nil
}

func resultOf(get *etcdserverpb.RangeResponse, put *etcdserverpb.PutResponse,
	del *etcdserverpb.DeleteRangeResponse) result {
	switch {
	case put != nil:
		if put.PrevKv == nil {
			return result{}
		}
		return result{kvs: []keyed{{string(put.PrevKv.Key), toKV(put.PrevKv)}}}
	case del != nil:
		return result{kvs: toKeyed(del.PrevKvs), deleted: del.Deleted}
	}
	return result{kvs: toKeyed(get.GetKvs())}
}

// --- what the actors share ---

type run struct {
	begin   time.Time
	gate    sync.RWMutex // held for reading during an operation, for writing by a check
	mu      sync.Mutex
	ids     int
	ops     []*op
	failed  int
	total   int
	doubted int
}

func (r *run) now() int64 { return int64(time.Since(r.begin)) }

func (r *run) nextID() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids++
	return r.ids
}

// took keeps an operation; a read that failed tells nothing.
func (r *run) took(o *op) {
	changes := false
	for _, list := range [][]action{o.req.then, o.req.els} {
		for _, act := range list {
			changes = changes || act.kind != actGet
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if o.answer == nil {
		r.failed++
		if !changes {
			return
		}
		r.doubted++
	}
	r.ops = append(r.ops, o)
}
