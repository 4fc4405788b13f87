package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var kvParts = []part{{"kv", kv}, {"ranges", ranges}, {"transactions", transactions}, {"streamed ranges", streams},
	{"leases", leases}, {"watches", watches}, {"compaction", compaction}}

func kv(ctx context.Context, c *clientv3.Client) {
	need(c.Put(ctx, "go/a", "1"))
	put := need(c.Put(ctx, "go/a", "2", clientv3.WithPrevKV()))
	equal(string(put.PrevKv.Value), "1")
	got := need(c.Get(ctx, "go/a")).Kvs[0]
	equal([]int64{got.Version, got.ModRevision}, []int64{2, put.Header.Revision})
	equal(string(need(c.Get(ctx, "go/a", clientv3.WithRev(got.CreateRevision))).Kvs[0].Value), "1")
	equal(need(c.Get(ctx, "go/a", clientv3.WithSerializable())).Count, int64(1))
	need(c.Put(ctx, "go/a", "", clientv3.WithIgnoreValue()))
	_, err := c.Put(ctx, "go/none", "", clientv3.WithIgnoreValue())
	equal(err, rpctypes.ErrKeyNotFound)
	big := strings.Repeat("x", 1900000)
	need(c.Put(ctx, "go/big", big))
	equal(string(need(c.Get(ctx, "go/big")).Kvs[0].Value) == big, true)
	_, err = c.Put(ctx, "go/big", strings.Repeat(big, 2))
	refused(err, "larger")
	equal(need(c.Delete(ctx, "go/", clientv3.WithPrefix(), clientv3.WithPrevKV())).Deleted, int64(2))
	_, err = c.Put(ctx, "", "x")
	equal(err, rpctypes.ErrEmptyKey)
}

func ranges(ctx context.Context, c *clientv3.Client) {
	for i := range 30 {
		need(c.Put(ctx, fmt.Sprintf("go/r/%02d", i), fmt.Sprintf("%02d", 29-i)))
	}
	all := need(c.Get(ctx, "go/r/", clientv3.WithPrefix()))
	equal(len(all.Kvs), 30)
	equal(need(c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Count, int64(30))
	for _, target := range []clientv3.SortTarget{clientv3.SortByKey, clientv3.SortByVersion,
		clientv3.SortByCreateRevision, clientv3.SortByModRevision, clientv3.SortByValue} {
		sorted := need(c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithLimit(4),
			clientv3.WithSort(target, clientv3.SortDescend)))
		equal(len(sorted.Kvs), 4)
		equal(sorted.More, true)
	}
	equal(string(need(c.Get(ctx, "go/r/", clientv3.WithLastRev()...)).Kvs[0].Key), "go/r/29")
	equal(string(need(c.Get(ctx, "go/r/", clientv3.WithFirstCreate()...)).Kvs[0].Key), "go/r/00")
	rev := all.Kvs[10].ModRevision
	equal(len(need(c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithMinModRev(rev))).Kvs), 20)
	equal(len(need(c.Get(ctx, "go/r/", clientv3.WithPrefix(), clientv3.WithMaxCreateRev(rev))).Kvs), 11)
	equal(len(need(c.Get(ctx, "go/r/05", clientv3.WithRange("go/r/08"), clientv3.WithKeysOnly())).Kvs), 3)
	equal(len(need(c.Get(ctx, "go/r/25", clientv3.WithFromKey(), clientv3.WithLimit(2))).Kvs), 2)
}

func transactions(ctx context.Context, c *clientv3.Client) {
	need(c.Put(ctx, "go/t", "1"))
	answer := need(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("go/t"), "=", "1"),
		clientv3.Compare(clientv3.Version("go/t"), ">", 0),
		clientv3.Compare(clientv3.CreateRevision("go/none"), "=", 0),
		clientv3.Compare(clientv3.LeaseValue("go/t"), "=", 0),
		clientv3.Compare(clientv3.ModRevision("go/r/"), "<", 1<<40).WithPrefix()).
		Then(clientv3.OpPut("go/t", "2", clientv3.WithPrevKV()), clientv3.OpGet("go/t"),
			clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value("go/t"), "!=", "9")},
				[]clientv3.Op{clientv3.OpPut("go/t2", "x")}, nil)).
		Else(clientv3.OpPut("go/t", "no")).Commit())
	equal(answer.Succeeded, true)
	equal(string(answer.Responses[1].GetResponseRange().Kvs[0].Value), "2")
	equal(answer.Responses[2].GetResponseTxn().Succeeded, true)
	_, err := c.Txn(ctx).Then(clientv3.OpPut("go/t", "a"), clientv3.OpPut("go/t", "b")).Commit()
	equal(err, rpctypes.ErrDuplicateKey)
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpPut(fmt.Sprint("go/t/", i), "x")
	}
	_, err = c.Txn(ctx).Then(many...).Commit()
	equal(err, rpctypes.ErrTooManyOps)
	need(c.Do(ctx, clientv3.OpTxn(nil, many[:128], nil)))
	equal(need(c.Delete(ctx, "go/t/", clientv3.WithPrefix())).Deleted, int64(128))
}

func streams(ctx context.Context, c *clientv3.Client) {
	for i := range 100 {
		need(c.Put(ctx, fmt.Sprintf("go/s/%03d", i), strings.Repeat("y", 50000)))
	}
	whole := need(clientv3.GetStreamToGetResponse(need(c.GetStream(ctx, "go/s/", clientv3.WithPrefix()))))
	plain := need(c.Get(ctx, "go/s/", clientv3.WithPrefix()))
	equal(len(whole.Kvs), len(plain.Kvs))
	for i := range plain.Kvs {
		equal(whole.Kvs[i].String() == plain.Kvs[i].String(), true)
	}
	equal(need(c.Delete(ctx, "go/s/", clientv3.WithPrefix())).Deleted, int64(100))
}

func leases(ctx context.Context, c *clientv3.Client) {
	lease := need(c.Grant(ctx, 60)).ID
	need(c.Put(ctx, "go/l", "x", clientv3.WithLease(lease)))
	equal(need(c.KeepAliveOnce(ctx, lease)).TTL, int64(60))
	told := need(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	equal([]any{told.GrantedTTL, len(told.Keys)}, []any{int64(60), 1})
	found := false
	for _, l := range need(c.Leases(ctx)).Leases {
		found = found || l.ID == lease
	}
	equal(found, true)
	need(c.Revoke(ctx, lease))
	equal(need(c.Get(ctx, "go/l")).Count, int64(0))
	_, err := c.Revoke(ctx, lease)
	equal(err, rpctypes.ErrLeaseNotFound)
	short := need(c.Grant(ctx, 2)).ID
	need(c.Put(ctx, "go/l", "x", clientv3.WithLease(short)))
	keepCtx, stop := context.WithCancel(ctx)
	alive := need(c.KeepAlive(keepCtx, short))
	for range 4 {
		equal(within(alive).TTL, int64(2))
	}
	stop()
	until("ended", func() bool { return need(c.Get(ctx, "go/l")).Count == 0 })
	equal(need(c.TimeToLive(ctx, short)).TTL, int64(-1))
}

func watches(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := need(c.Put(ctx, "go/w/0", "0")).Header.Revision
	all := c.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithPrevKV(),
		clientv3.WithCreatedNotify())
	deletes := c.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFilterPut())
	fragments := c.Watch(ctx, "go/w/", clientv3.WithPrefix(), clientv3.WithRev(begin), clientv3.WithFragment())
	equal(within(all).Created, true)
	need(c.Put(ctx, "go/w/1", "a"))
	need(c.Put(ctx, "go/w/1", "b"))
	need(c.Delete(ctx, "go/w/1"))
	var seen []string
	for len(seen) < 4 {
		for _, ev := range within(all).Events {
			seen = append(seen, fmt.Sprintf("%s %s %s", ev.Type, ev.Kv.Key, ev.Kv.Value))
			equal(ev.PrevKv != nil, !ev.IsCreate())
		}
	}
	equal(seen, []string{"PUT go/w/0 0", "PUT go/w/1 a", "PUT go/w/1 b", "DELETE go/w/1 "})
	equal(within(deletes).Events[0].Type, mvccpb.Event_DELETE)
	for count := 0; count < 4; {
		count += len(within(fragments).Events)
	}
	progress := c.Watch(ctx, "go/none", clientv3.WithCreatedNotify())
	within(progress)
	until("told of progress", func() bool { // none is sent while a watcher is behind
		must(c.RequestProgress(ctx))
		select {
		case answer := <-progress:
			return answer.IsProgressNotify()
		case <-time.After(time.Second):
			return false
		}
	})
}

func compaction(ctx context.Context, c *clientv3.Client) {
	need(c.Put(ctx, "go/c", "1"))
	rev := need(c.Put(ctx, "go/c", "2")).Header.Revision
	need(c.Compact(ctx, rev, clientv3.WithCompactPhysical()))
	_, err := c.Compact(ctx, rev)
	equal(err, rpctypes.ErrCompacted)
	_, err = c.Compact(ctx, rev+1000000)
	equal(err, rpctypes.ErrFutureRev)
	_, err = c.Get(ctx, "go/c", clientv3.WithRev(rev-1))
	equal(err, rpctypes.ErrCompacted)
	watchCtx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	answer := within(c.Watch(watchCtx, "go/c", clientv3.WithRev(rev-1)))
	equal([]any{answer.CompactRevision, answer.Canceled}, []any{rev, true})
}
