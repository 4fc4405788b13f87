// Package harness is what the test programs share: counting checks, and the view of a key range that
// a watcher builds from events alone.
package harness

import (
	"bytes"
	"fmt"
	"os"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const shownMax = 40

// Tally counts checks; Failures beyond the first 40 are counted and not shown.
type Tally struct {
	mu             sync.Mutex
	passed, failed int
}

// Pass counts one check that held.
func (t *Tally) Pass() {
	t.mu.Lock()
	t.passed++
	t.mu.Unlock()
}

// Fail counts and shows one that did not.
func (t *Tally) Fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed++
	if t.failed <= shownMax {
		fmt.Printf("FAILED "+format+"\n", args...)
	}
}

// Failed is how many did not hold so far.
func (t *Tally) Failed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Finish prints the closing line and ends the process.
func (t *Tally) Finish() {
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
	os.Exit(0)
}

// Connect makes a client of these endpoints, without its own log.
func Connect(config clientv3.Config) *clientv3.Client {
	config.Logger = zap.NewNop()
	client, err := clientv3.New(config)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot make a client: %v\n", err)
		os.Exit(2)
	}
	return client
}

// SameKV says whether two key-values are equal in every field; nil equals nil.
func SameKV(a, b *mvccpb.KeyValue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) &&
		a.CreateRevision == b.CreateRevision && a.ModRevision == b.ModRevision &&
		a.Version == b.Version && a.Lease == b.Lease
}

// Replay is the state of a key range as its events tell it. Owner: one goroutine.
type Replay struct {
	Live     map[string]*mvccpb.KeyValue
	Revision int64 // of the last event
	seen     map[string]bool
}

// NewReplay begins with an empty range.
func NewReplay() *Replay {
	return &Replay{Live: map[string]*mvccpb.KeyValue{}, seen: map[string]bool{}}
}

// Apply checks that an event can follow what was there and takes it in: revisions never go back, a key
// changes once in a revision, versions count up from 1, a deletion finds something to delete. A lost
// event breaks one of these rules at the next event of its key.
func (r *Replay) Apply(ev *clientv3.Event) error {
	key := string(ev.Kv.Key)
	if ev.Kv.ModRevision < r.Revision {
		return fmt.Errorf("event of revision %d after one of %d", ev.Kv.ModRevision, r.Revision)
	}
	if ev.Kv.ModRevision > r.Revision {
		r.Revision = ev.Kv.ModRevision
		clear(r.seen)
	}
	if r.seen[key] {
		return fmt.Errorf("%q twice in revision %d", key, r.Revision)
	}
	r.seen[key] = true
	old := r.Live[key]
	if ev.PrevKv != nil && !SameKV(ev.PrevKv, old) {
		return fmt.Errorf("%q at %d: prev_kv %v, but before was %v", key, r.Revision, ev.PrevKv, old)
	}
	if ev.Type == clientv3.EventTypeDelete {
		if old == nil {
			return fmt.Errorf("%q deleted at %d, but it was not there", key, r.Revision)
		}
		delete(r.Live, key)
		return nil
	}
	wantVersion, wantCreate := int64(1), ev.Kv.ModRevision
	if old != nil {
		wantVersion, wantCreate = old.Version+1, old.CreateRevision
	}
	if ev.Kv.Version != wantVersion || ev.Kv.CreateRevision != wantCreate {
		return fmt.Errorf("%q at %d: version %d created %d, expected version %d created %d", key,
			r.Revision, ev.Kv.Version, ev.Kv.CreateRevision, wantVersion, wantCreate)
	}
	r.Live[key] = ev.Kv
	return nil
}

// Compare finds the first difference between the replay and what a range returned.
func (r *Replay) Compare(kvs []*mvccpb.KeyValue) error {
	for _, kv := range kvs {
		if !SameKV(kv, r.Live[string(kv.Key)]) {
			return fmt.Errorf("%q: read %v, events say %v", kv.Key, kv, r.Live[string(kv.Key)])
		}
	}
	if len(kvs) != len(r.Live) {
		return fmt.Errorf("read %d keys, events say %d", len(kvs), len(r.Live))
	}
	return nil
}
