// Modelcheck drives a cluster with clientv3 from many goroutines and checks every answer.
//
// Each goroutine owns a prefix, so that it knows exactly what every answer about it must be: values,
// revisions, versions, leases, counts and order. What goroutines share are counters that they raise by
// compare-and-swap: in the end a counter is the number of successes, and no value was given out twice.
// Watchers on every member, some started in the middle from the first revision on, must see the same
// events, in order, once each, and their replay must be what a range returns.
//
// Nobody is killed here: an error that a request does not deserve is a failure.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

const (
	ownKeys        = 12
	sharedCounters = 8
	requestTimeout = 60 * time.Second
)

type run struct {
	tally    harness.Tally
	clients  []*clientv3.Client // one per member
	acked    atomic.Int64       // the newest revision that any answer told
	done     atomic.Int64       // operations
	total    int64
	mu       sync.Mutex
	counters [sharedCounters]map[string]bool // values that were written
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "of all members, separated by commas")
	operations := flag.Int64("operations", 50000, "in all")
	goroutines := flag.Int("goroutines", 64, "that work at the same time")
	seed := flag.Int64("seed", 1, "of the choices")
	flag.Parse()

	r := &run{total: *operations}
	for i := range r.counters {
		r.counters[i] = map[string]bool{}
	}
	members := strings.Split(*endpoints, ",")
	for _, endpoint := range members {
		r.clients = append(r.clients, harness.Connect(clientv3.Config{
			Endpoints: []string{endpoint}, DialTimeout: 20 * time.Second,
			MaxCallRecvMsgSize: 1 << 30}))
	}

	fmt.Printf("seed %d, %d operations, %d goroutines, %d members\n", *seed, *operations, *goroutines,
		len(members))
	begin := time.Now()
	var watchers []*watcher
	for i := range r.clients {
		watchers = append(watchers, r.watch(i, "m/", false), r.watch(i, "m/3/", true))
	}
	var group sync.WaitGroup
	for i := 0; i < *goroutines; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			newActor(r, i, rand.New(rand.NewSource(*seed*1000+int64(i)))).work()
		}()
	}
	for r.done.Load() < r.total/2 && r.tally.Failed() < 1000 {
		time.Sleep(10 * time.Millisecond)
	}
	for i := range r.clients {
		watchers = append(watchers, r.watch(i, "m/", true))
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	r.checkCounters()
	r.checkWatchers(watchers)
	fmt.Printf("%d operations in %.1f s, %d revisions\n", r.done.Load(), seconds, r.acked.Load())
	r.tally.Finish()
}

// check counts, and says what happened when it did not hold.
func (r *run) check(ok bool, format string, args ...any) bool {
	if ok {
		r.tally.Pass()
	} else {
		r.tally.Fail(format, args...)
	}
	return ok
}

func (r *run) sawRevision(revision int64) {
	for {
		old := r.acked.Load()
		if revision <= old || r.acked.CompareAndSwap(old, revision) {
			return
		}
	}
}

func (r *run) checkCounters() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	for i, written := range r.counters {
		got, err := r.clients[i%len(r.clients)].Get(ctx, counterKey(i))
		if err != nil {
			r.tally.Fail("counter %d: %v", i, err)
			continue
		}
		value := "0"
		if len(got.Kvs) > 0 {
			value = string(got.Kvs[0].Value)
		}
		r.check(value == fmt.Sprint(len(written)), "counter %d is %s after %d successes", i, value,
			len(written))
	}
}

func counterKey(i int) string { return fmt.Sprintf("shared/%d", i) }
