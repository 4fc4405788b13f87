package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var failoverParts = []part{{"a member goes", memberGoes}}

// memberGoes: each member in turn is killed; puts, reads, a watch, a session and a mutex go on.
func memberGoes(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	begin := need(c.Put(ctx, "go/f", "begin")).Header.Revision
	again := func() clientv3.WatchChan {
		return c.Watch(clientv3.WithRequireLeader(ctx), "go/f", clientv3.WithRev(begin))
	}
	watch := again()
	s := need(concurrency.NewSession(c, concurrency.WithTTL(30)))
	mutex := concurrency.NewMutex(s, "go/f-mutex")
	must(mutex.Lock(ctx))
	for i := range addresses {
		order(fmt.Sprintf("KILL %d", i))
		want := fmt.Sprint("value ", i)
		until("written", func() bool {
			short, done := context.WithTimeout(ctx, 3*time.Second)
			defer done()
			_, err := c.Put(short, "go/f", want)
			return err == nil
		})
		until("read", func() bool {
			short, done := context.WithTimeout(ctx, 3*time.Second)
			defer done()
			got, err := c.Get(short, "go/f")
			return err == nil && string(got.Kvs[0].Value) == want
		})
		for seen := ""; seen != want; {
			answer := within(watch)
			if answer.Err() != nil { // no leader was known for a while
				watch = again()
			}
			for _, ev := range answer.Events {
				seen = string(ev.Kv.Value)
			}
		}
		order(fmt.Sprintf("START %d", i))
	}
	until("the owner still", func() bool {
		answer, err := c.Txn(ctx).If(mutex.IsOwner()).Commit()
		return err == nil && answer.Succeeded
	})
	until("unlocked", func() bool { return mutex.Unlock(ctx) == nil })
	must(s.Close())
}
