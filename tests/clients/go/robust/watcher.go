package main

import (
	"context"
	"math/rand"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A watcher lives as long as the run, over as many connections as it takes. With `raw` it speaks to the
// service itself and sees fragments and bookmarks as they come; else it is clientv3's.
type watcher struct {
	mu     sync.Mutex
	record record
	seen   []sighting // since the last check
	client *clientv3.Client
	raw    bool
	leader bool // WithRequireLeader
	begin  time.Time
	rng    *rand.Rand
}

func startWatcher(client *clientv3.Client, w wish, raw, leader bool, begin time.Time, seed int64) *watcher {
	out := &watcher{record: record{wish: w}, client: client, raw: raw, leader: leader, begin: begin,
		rng: rand.New(rand.NewSource(seed))}
	if !w.fromNow {
		out.record.start = 1
	}
	go out.live()
	return out
}

func (w *watcher) live() {
	// The first is given up soon, so that every watcher begins again where it was at least once; of the
	// others some last long.
	life := time.Second + time.Duration(w.rng.Int63n(int64(3*time.Second)))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), life)
		if w.leader {
			ctx = clientv3.WithRequireLeader(ctx)
		}
		if w.raw {
			w.rawOnce(ctx)
		} else {
			w.clientOnce(ctx)
		}
		cancel()
		w.mu.Lock()
		w.record.disconnected()
		w.mu.Unlock()
		time.Sleep(time.Duration(10+w.rng.Intn(60)) * time.Millisecond)
		life = time.Duration(w.rng.ExpFloat64() * float64(4*time.Second))
		if w.rng.Intn(3) == 0 {
			life = time.Hour
		}
	}
}

func (w *watcher) next() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.record.start == 0 {
		return 0
	}
	return w.record.next()
}

func (w *watcher) rawOnce(ctx context.Context) {
	stream, err := etcdserverpb.NewWatchClient(w.client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return
	}
	create := &etcdserverpb.WatchCreateRequest{Key: []byte(w.record.key), RangeEnd: []byte(w.record.end),
		StartRevision: w.next(), PrevKv: w.record.prev, Fragment: w.record.fragment,
		ProgressNotify: w.record.notify}
	if w.record.noPut {
		create.Filters = append(create.Filters, etcdserverpb.WatchCreateRequest_NOPUT)
	}
	if w.record.noDel {
		create.Filters = append(create.Filters, etcdserverpb.WatchCreateRequest_NODELETE)
	}
	if stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: create}}) != nil {
		return
	}
	go func() { // asks how far it is, twice a second
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stream.Context().Done():
				return
			case <-tick.C:
				if stream.Send(&etcdserverpb.WatchRequest{
					RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
						ProgressRequest: &etcdserverpb.WatchProgressRequest{}}}) != nil {
					return
				}
			}
		}
	}()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return
		}
		if !w.take(answer) {
			return
		}
	}
}

func (w *watcher) take(answer *etcdserverpb.WatchResponse) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	rev := answer.Header.Revision
	switch {
	case answer.Created:
		if w.record.start == 0 {
			w.record.start = rev + 1
		}
		return !answer.Canceled
	case answer.Canceled:
		if answer.CompactRevision != 0 {
			w.record.complain("it is compacted at %d, wanted %d", answer.CompactRevision, w.record.next())
		}
		return false
	case len(answer.Events) == 0 && !answer.Fragment:
		w.record.bookmark(rev)
		return true
	}
	var events []event
	for _, ev := range answer.Events {
		events = append(events, toEvent(ev, w.record.prev))
	}
	w.record.message(events, answer.Fragment)
	w.sight(events)
	return true
}

func (w *watcher) sight(events []event) {
	if len(events) > 0 {
		w.seen = append(w.seen, sighting{int64(time.Since(w.begin)), events[len(events)-1].rev})
	}
}

func (w *watcher) clientOnce(ctx context.Context) {
	options := []clientv3.OpOption{clientv3.WithCreatedNotify()}
	if next := w.next(); next > 0 {
		options = append(options, clientv3.WithRev(next))
	}
	if w.record.end != "" {
		options = append(options, clientv3.WithRange(w.record.end))
	}
	if w.record.prev {
		options = append(options, clientv3.WithPrevKV())
	}
	if w.record.fragment {
		options = append(options, clientv3.WithFragment())
	}
	if w.record.notify {
		options = append(options, clientv3.WithProgressNotify())
	}
	for answer := range w.client.Watch(ctx, w.record.key, options...) {
		if !w.takeClient(&answer) {
			return
		}
	}
}

func (w *watcher) takeClient(answer *clientv3.WatchResponse) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case answer.CompactRevision != 0:
		w.record.complain("it is compacted at %d, wanted %d", answer.CompactRevision, w.record.next())
		return false
	case answer.Err() != nil:
		return false
	case answer.Created:
		if w.record.start == 0 {
			w.record.start = answer.Header.Revision + 1
		}
		return true
	case answer.IsProgressNotify():
		w.record.bookmark(answer.Header.Revision)
		return true
	}
	var events []event
	for _, ev := range answer.Events {
		events = append(events, toEvent(ev, w.record.prev))
	}
	w.record.message(events, false)
	w.sight(events)
	return true
}

// check waits until everything up to a revision must have come, and judges it.
func (w *watcher) check(ctx context.Context, t *timeline, rev int64) (seen []sighting, wrong []string) {
	for {
		w.mu.Lock()
		if w.record.reached(rev) || len(w.record.wrong) > 0 || ctx.Err() != nil {
			break
		}
		w.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	defer w.mu.Unlock()
	if !w.record.reached(rev) && len(w.record.wrong) == 0 {
		w.record.complain("it has not been told of revision %d: the last event is of %d, the last bookmark %d",
			rev, w.record.newest, w.record.promised)
	}
	w.record.judge(t, rev)
	seen, w.seen = w.seen, nil
	return seen, w.record.wrong
}
