package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var concurrencyParts = []part{{"sessions", sessions}, {"mutexes", mutexes}, {"elections", elections}, {"stm", stm}}

func sessions(ctx context.Context, c *clientv3.Client) {
	s := need(concurrency.NewSession(c, concurrency.WithTTL(2)))
	time.Sleep(3 * time.Second)
	equal(need(c.TimeToLive(ctx, s.Lease())).TTL > 0, true)
	need(c.Revoke(ctx, s.Lease()))
	within(s.Done())
	orphan := need(concurrency.NewSession(c, concurrency.WithTTL(60)))
	orphan.Orphan()
	adopted := need(concurrency.NewSession(c, concurrency.WithLease(orphan.Lease())))
	must(adopted.Close())
	equal(need(c.TimeToLive(ctx, orphan.Lease())).TTL, int64(-1))
}

func mutexes(ctx context.Context, c *clientv3.Client) {
	inside, total := 0, 0
	var wg sync.WaitGroup
	failures := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			s, err := concurrency.NewSession(c)
			if err != nil {
				failures <- err
				return
			}
			defer s.Close()
			m := concurrency.NewMutex(s, "go/mutex")
			if err = m.Lock(ctx); err == nil {
				inside++
				if inside != 1 {
					total = -1000
				}
				time.Sleep(5 * time.Millisecond)
				inside--
				total++
				err = m.Unlock(ctx)
			}
			failures <- err
		})
	}
	wg.Wait()
	for range 8 {
		must(<-failures)
	}
	equal(total, 8)
	a, b := need(concurrency.NewSession(c)), need(concurrency.NewSession(c))
	defer a.Close()
	defer b.Close()
	first, second := concurrency.NewMutex(a, "go/try"), concurrency.NewMutex(b, "go/try")
	must(first.TryLock(ctx))
	equal(second.TryLock(ctx), concurrency.ErrLocked)
	equal(need(c.Txn(ctx).If(first.IsOwner()).Commit()).Succeeded, true)
	must(first.Unlock(ctx))
	must(second.TryLock(ctx))
	must(second.Unlock(ctx))
	locker := concurrency.NewLocker(a, "go/locker")
	locker.Lock()
	locker.Unlock()
}

func elections(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, b := need(concurrency.NewSession(c)), need(concurrency.NewSession(c))
	defer a.Close()
	defer b.Close()
	one, two := concurrency.NewElection(a, "go/election"), concurrency.NewElection(b, "go/election")
	_, err := one.Leader(ctx)
	equal(err, concurrency.ErrElectionNoLeader)
	must(one.Campaign(ctx, "one"))
	observed := two.Observe(ctx)
	equal(string(within(observed).Kvs[0].Value), "one")
	must(one.Proclaim(ctx, "uno"))
	equal(string(within(observed).Kvs[0].Value), "uno")
	won := make(chan error, 1)
	go func() { won <- two.Campaign(ctx, "two") }()
	resumed := concurrency.ResumeElection(a, "go/election", one.Key(), one.Rev())
	must(resumed.Resign(ctx))
	must(within(won))
	equal(string(within(observed).Kvs[0].Value), "two")
	equal(string(need(two.Leader(ctx)).Kvs[0].Value), "two")
	must(two.Resign(ctx))
}

func stm(ctx context.Context, c *clientv3.Client) {
	for _, level := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable,
		concurrency.RepeatableReads} {
		need(c.Put(ctx, "go/stm/a", "100"))
		need(c.Put(ctx, "go/stm/b", "100"))
		done := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					a, _ := strconv.Atoi(s.Get("go/stm/a"))
					b, _ := strconv.Atoi(s.Get("go/stm/b"))
					s.Put("go/stm/a", strconv.Itoa(a-1))
					s.Put("go/stm/b", strconv.Itoa(b+1))
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(ctx),
					concurrency.WithPrefetch("go/stm/a", "go/stm/b"))
				done <- err
			}()
		}
		for range 10 {
			must(<-done)
		}
		equal(string(need(c.Get(ctx, "go/stm/a")).Kvs[0].Value), "90")
		equal(string(need(c.Get(ctx, "go/stm/b")).Kvs[0].Value), "110")
	}
}
