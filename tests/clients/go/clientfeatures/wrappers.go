package main

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/ordering"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

var wrapperParts = []part{{"leasing", leases2}, {"mirror", mirrors}, {"namespace", namespaces},
	{"ordering", orderings}, {"naming", namings}, {"kubernetes", kubernetesPart}}

// leases2: two caches of the same keys; a write through one takes the other's away.
func leases2(ctx context.Context, c *clientv3.Client) {
	first, closeFirst := must3(leasing.NewKV(c, "go/leasing/"))
	defer closeFirst()
	second, closeSecond := must3(leasing.NewKV(c, "go/leasing/"))
	defer closeSecond()
	need(c.Put(ctx, "go/k/1", "a"))
	for range 3 {
		equal(string(need(first.Get(ctx, "go/k/1")).Kvs[0].Value), "a")
	}
	need(second.Put(ctx, "go/k/1", "b"))
	equal(string(need(first.Get(ctx, "go/k/1")).Kvs[0].Value), "b")
	need(second.Txn(ctx).If(clientv3.Compare(clientv3.Value("go/k/1"), "=", "b")).
		Then(clientv3.OpPut("go/k/1", "c"), clientv3.OpPut("go/k/2", "d")).Commit())
	equal(string(need(first.Get(ctx, "go/k/1")).Kvs[0].Value), "c")
	equal(need(first.Delete(ctx, "go/k/", clientv3.WithPrefix())).Deleted, int64(2))
	equal(need(second.Get(ctx, "go/k/1")).Count, int64(0))
}

func must3[T any](value T, done func(), err error) (T, func()) {
	must(err)
	return value, done
}

func mirrors(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range 2500 { // more than a page of the syncer
		if i%100 == 0 {
			ops := []clientv3.Op{}
			for j := range 100 {
				ops = append(ops, clientv3.OpPut(fmt.Sprintf("go/mirror/%04d", i+j), "x"))
			}
			need(c.Txn(ctx).Then(ops...).Commit())
		}
	}
	syncer := mirror.NewSyncer(c, "go/mirror/", 0)
	answers, failed := syncer.SyncBase(ctx)
	count := 0
	for answer := range answers {
		count += len(answer.Kvs)
	}
	must(<-failed)
	equal(count, 2500)
	updates := syncer.SyncUpdates(ctx)
	need(c.Put(ctx, "go/mirror/new", "y"))
	equal(string(within(updates).Events[0].Kv.Key), "go/mirror/new")
	need(c.Delete(ctx, "go/mirror/", clientv3.WithPrefix()))
	equal(len(within(updates).Events), 2501)
}

func namespaces(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kv := namespace.NewKV(c, "go/ns/")
	watch := namespace.NewWatcher(c, "go/ns/").Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	within(watch)
	lease := need(c.Grant(ctx, 60)).ID
	need(kv.Put(ctx, "a", "1", clientv3.WithLease(lease)))
	equal(string(within(watch).Events[0].Kv.Key), "a")
	equal(string(need(kv.Get(ctx, "", clientv3.WithFromKey())).Kvs[0].Key), "a")
	equal(need(c.Get(ctx, "go/ns/a")).Count, int64(1))
	told := need(namespace.NewLease(c, "go/ns/").TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	equal(string(told.Keys[0]), "a")
	answer := need(kv.Txn(ctx).If(clientv3.Compare(clientv3.Version("a"), "=", 1)).Then(clientv3.OpDelete("a")).Commit())
	equal(answer.Succeeded, true)
	need(c.Revoke(ctx, lease))
}

func orderings(ctx context.Context, c *clientv3.Client) {
	kv := ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c))
	for i := range 50 {
		need(kv.Put(ctx, "go/order", fmt.Sprint(i)))
		equal(string(need(kv.Get(ctx, "go/order")).Kvs[0].Value), fmt.Sprint(i))
		need(kv.Get(ctx, "go/order", clientv3.WithSerializable()))
	}
}

// namings: a gRPC client finds its servers, these members, by what is written here.
func namings(ctx context.Context, c *clientv3.Client) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	manager := need(endpoints.NewManager(c, "go/service"))
	changes := need(manager.NewWatchChannel(ctx))
	address := c.Endpoints()[0]
	must(manager.AddEndpoint(ctx, "go/service/1", endpoints.Endpoint{Addr: address, Metadata: "first"}))
	added := within(changes)
	for len(added) == 0 { // first comes what there was before
		added = within(changes)
	}
	equal(added[0].Endpoint.Addr, address)
	until("listed", func() bool { return len(need(manager.List(ctx))) == 1 }) // it asks any one member
	security := insecure.NewCredentials()
	if secure {
		how := config().TLS
		how.ServerName = "localhost"
		security = credentials.NewTLS(how)
	}
	connection := need(grpc.NewClient("etcd:///go/service", grpc.WithTransportCredentials(security),
		grpc.WithResolvers(need(resolver.NewBuilder(c)))))
	defer connection.Close()
	connection.Connect()
	until("connected", func() bool { return connection.GetState() == connectivity.Ready })
	must(manager.Update(ctx, []*endpoints.UpdateWithOpts{
		endpoints.NewAddUpdateOpts("go/service/2", endpoints.Endpoint{Addr: "127.0.0.1:1"}),
		endpoints.NewDeleteUpdateOpts("go/service/1")}))
	for count := 0; count < 2; {
		count += len(within(changes))
	}
	must(manager.DeleteEndpoint(ctx, "go/service/2"))
}

func kubernetesPart(ctx context.Context, plain *clientv3.Client) {
	c := need(kubernetes.New(config()))
	defer c.Client.Close()
	k := c.Kubernetes
	created := need(k.OptimisticPut(ctx, "go/pods/a", []byte("1"), 0, kubernetes.PutOptions{}))
	equal(created.Succeeded, true)
	again := need(k.OptimisticPut(ctx, "go/pods/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true}))
	equal([]any{again.Succeeded, string(again.KV.Value)}, []any{false, "1"})
	changed := need(k.OptimisticPut(ctx, "go/pods/a", []byte("2"), created.Revision, kubernetes.PutOptions{}))
	equal(changed.Succeeded, true)
	equal(string(need(k.Get(ctx, "go/pods/a", kubernetes.GetOptions{Revision: created.Revision})).KV.Value), "1")
	for i := range 5 {
		need(plain.Put(ctx, fmt.Sprintf("go/pods/b%d", i), "x"))
	}
	page := need(k.List(ctx, "go/pods/", kubernetes.ListOptions{Limit: 4}))
	equal([]any{len(page.Kvs), page.Count}, []any{4, int64(6)})
	rest := need(k.List(ctx, "go/pods/", kubernetes.ListOptions{Limit: 4, Revision: page.Revision,
		Continue: string(page.Kvs[3].Key) + "\x00"}))
	equal(len(rest.Kvs), 2)
	equal(need(k.Count(ctx, "go/pods/", kubernetes.CountOptions{})), int64(6))
	gone := need(k.OptimisticDelete(ctx, "go/pods/a", created.Revision, kubernetes.DeleteOptions{GetOnFailure: true}))
	equal([]any{gone.Succeeded, string(gone.KV.Value)}, []any{false, "2"})
	equal(need(k.OptimisticDelete(ctx, "go/pods/a", changed.Revision, kubernetes.DeleteOptions{})).Succeeded, true)
}
