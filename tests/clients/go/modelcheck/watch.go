package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

const endValue = "the end"

// A watcher follows a prefix on one member until it sees the end marker.
type watcher struct {
	name   string
	prefix string
	replay *harness.Replay
	events int
	sum    uint64 // of all events, in order
	err    error
	done   chan struct{}
}

func (r *run) watch(member int, prefix string, fromStart bool) *watcher {
	w := &watcher{name: fmt.Sprintf("watcher of %s on member %d, fromStart %v", prefix, member, fromStart),
		prefix: prefix, replay: harness.NewReplay(), done: make(chan struct{})}
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithCreatedNotify(),
		clientv3.WithRev(1)}
	if fromStart {
		options = append(options, clientv3.WithPrevKV(), clientv3.WithFragment())
	}
	channel := r.clients[member].Watch(context.Background(), prefix, options...)
	go w.follow(channel)
	return w
}

func (w *watcher) follow(channel clientv3.WatchChan) {
	defer close(w.done)
	hash := fnv.New64a()
	last := int64(0)
	for response := range channel {
		if err := response.Err(); err != nil {
			w.err = err
			return
		}
		for _, ev := range response.Events {
			if ev.Kv.ModRevision <= last {
				w.err = fmt.Errorf("revision %d is not told in one response", ev.Kv.ModRevision)
				return
			}
			if w.err = w.replay.Apply(ev); w.err != nil {
				return
			}
			w.events++
			fmt.Fprintf(hash, "%d %v;", ev.Type, ev.Kv)
			if bytes.HasSuffix(ev.Kv.Key, []byte("/~end")) && string(ev.Kv.Value) == endValue {
				w.sum = hash.Sum64()
				return
			}
		}
		if len(response.Events) > 0 {
			last = response.Events[len(response.Events)-1].Kv.ModRevision
		}
		if response.Header.Revision < last {
			w.err = fmt.Errorf("header revision %d below its event's, %d", response.Header.Revision, last)
			return
		}
	}
	w.err = fmt.Errorf("the channel ended")
}

// checkWatchers ends every watched prefix with a marker and compares what the watchers saw.
func (r *run) checkWatchers(watchers []*watcher) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	for _, key := range []string{"m/3/~end", "m/~end"} {
		if _, err := r.clients[0].Put(ctx, key, endValue); err != nil {
			r.tally.Fail("end marker: %v", err)
			return
		}
	}
	sums := map[string]uint64{}
	deadline := time.After(requestTimeout)
	for _, w := range watchers {
		select {
		case <-w.done:
		case <-deadline:
			r.tally.Fail("%s: did not see the end", w.name)
			continue
		}
		if w.err != nil {
			r.tally.Fail("%s: %v", w.name, w.err)
			continue
		}
		if other, known := sums[w.prefix]; known {
			r.check(other == w.sum, "%s: other events than another watcher", w.name)
		}
		sums[w.prefix] = w.sum
		got, err := r.clients[0].Get(ctx, w.prefix, clientv3.WithPrefix(),
			clientv3.WithRev(w.replay.Revision))
		if err != nil {
			r.tally.Fail("%s: %v", w.name, err)
			continue
		}
		err = w.replay.Compare(got.Kvs)
		r.check(err == nil, "%s after %d events: %v", w.name, w.events, err)
	}
}
