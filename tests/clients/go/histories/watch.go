package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	creationTimeout = 3 * time.Second
	barrierTimeout  = 3 * time.Second
	silentTime      = 10 * time.Millisecond
	barrierInterval = 4 * time.Millisecond
	lostTime        = 300 * time.Millisecond // in which etcd looks at its other watches
)

// A watchStream is a call of Watch and what came on it since it was last looked at. How events are
// spread over messages is not kept, their order is.
type watchStream struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc

	mu       sync.Mutex
	changed  chan struct{}
	told     map[int64][]string // by watch
	creates  int
	live     map[int64]bool
	progress int64 // the newest revision up to which everything was told
	// COMPAT better, Watch: requests for progress are answered when a compaction has ended one of the watches of the
	// COMPAT   stream; etcd never answers them again
	lost   bool // a watch was ended by a compaction: etcd's then never says that all was told
	closed string
}

func (d *side) openStream(number, identity int) (*watchStream, error) {
	ctx, cancel := d.context(time.Hour, identity)
	stream, err := pb.NewWatchClient(d.conn).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watchStream{stream: stream, cancel: cancel, changed: make(chan struct{}, 1), told: map[int64][]string{},
		live: map[int64]bool{}}
	go w.read()
	d.streams[number] = w
	return w, nil
}

func (d *side) closeStream(number int) {
	if w := d.streams[number]; w != nil {
		w.cancel()
		delete(d.streams, number)
	}
}

func (w *watchStream) read() {
	for {
		answer, err := w.stream.Recv()
		w.mu.Lock()
		if err != nil {
			s := status.Convert(err)
			w.closed = fmt.Sprintf("%s %q", s.Code(), s.Message())
		} else {
			w.take(answer)
		}
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (w *watchStream) take(answer *pb.WatchResponse) {
	id := answer.WatchId
	if answer.Created {
		w.creates++
		w.live[id] = true
		w.told[id] = append(w.told[id], fmt.Sprintf("created at %d", answer.Header.Revision))
	}
	if answer.Canceled {
		w.lost = w.lost || answer.CompactRevision != 0
		delete(w.live, id)
		w.told[id] = append(w.told[id], fmt.Sprintf("canceled %q %d", answer.CancelReason, answer.CompactRevision))
	}
	if !answer.Created && !answer.Canceled && len(answer.Events) == 0 && id == -1 {
		w.progress = answer.Header.Revision
	}
	for _, ev := range answer.Events {
		w.told[id] = append(w.told[id], brief(ev))
	}
}

// until waits for a condition; false: the stream has ended, or it takes too long.
func (w *watchStream) until(timeout time.Duration, holds func() bool, again func()) bool {
	deadline := time.After(timeout)
	ticker := time.NewTicker(barrierInterval)
	defer ticker.Stop()
	for {
		w.mu.Lock()
		done, over := holds(), w.closed != ""
		w.mu.Unlock()
		if done || over {
			return done
		}
		select {
		case <-w.changed:
		case <-ticker.C:
			if again != nil {
				again()
			}
		case <-deadline:
			return false
		}
	}
}

func (w *watchStream) askProgress() {
	_ = w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{}}})
}

// barrier waits until everything up to a revision was told.
func (w *watchStream) barrier(revision int64) bool {
	w.mu.Lock()
	w.progress = 0
	silent := len(w.live) == 0 // nobody answers for a stream without watches
	w.mu.Unlock()
	if silent {
		time.Sleep(silentTime)
		return true
	}
	w.askProgress()
	return w.until(barrierTimeout, func() bool { return w.progress >= revision || w.lost }, w.askProgress)
}

// watch sends one request, and waits for what answers it.
func (d *side) watch(s *step, request proto.Message, revision int64) error {
	w := d.streams[s.Stream]
	if w == nil {
		var err error
		if w, err = d.openStream(s.Stream, s.Identity); err != nil {
			return err
		}
	}
	r := request.(*pb.WatchRequest)
	w.mu.Lock()
	before := w.creates
	w.mu.Unlock()
	if err := w.stream.Send(r); err != nil {
		return nil // the reader says how it ended
	}
	switch {
	case r.GetCreateRequest() != nil:
		w.until(creationTimeout, func() bool { return w.creates > before }, nil)
	case r.GetCancelRequest() != nil:
		w.barrier(revision)
	}
	return nil
}

// sync says for each stream what it was told, once that is everything up to a revision.
func (d *side) sync(revision int64) string {
	numbers := make([]int, 0, len(d.streams))
	for n := range d.streams {
		numbers = append(numbers, n)
	}
	sort.Ints(numbers)
	var all strings.Builder
	for _, n := range numbers {
		w := d.streams[n]
		reached := w.barrier(revision)
		w.mu.Lock()
		lost := w.lost
		w.mu.Unlock()
		if lost {
			time.Sleep(lostTime)
		}
		w.mu.Lock()
		fmt.Fprintf(&all, "stream %d: all told: %v, %s\n", n, reached || lost, w.closed)
		ids := make([]int64, 0, len(w.told))
		for id := range w.told {
			ids = append(ids, id)
		}
		sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
		for _, id := range ids {
			fmt.Fprintf(&all, " watch %d\n  %s\n", id, strings.Join(w.told[id], "\n  "))
		}
		w.told = map[int64][]string{}
		ended := w.closed != ""
		w.mu.Unlock()
		if ended || lost || !reached {
			d.closeStream(n)
		}
	}
	return all.String()
}
