package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sort"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

// A change of one key; kv is nil when it was deleted. The revision of a deletion by a lease's end is
// only known to be above `after`.
type change struct {
	revision int64
	after    int64
	kv       *mvccpb.KeyValue
}

// An actor owns the keys below its prefix and knows their whole history. Owner: one goroutine.
type actor struct {
	r        *run
	id       int
	rng      *rand.Rand
	live     map[string]*mvccpb.KeyValue
	history  map[string][]change
	leases   []clientv3.LeaseID
	revision int64 // of its newest write
	serial   int
}

func newActor(r *run, id int, rng *rand.Rand) *actor {
	return &actor{r: r, id: id, rng: rng, live: map[string]*mvccpb.KeyValue{},
		history: map[string][]change{}}
}

func (a *actor) prefix() string       { return fmt.Sprintf("m/%d/", a.id) }
func (a *actor) key(i int) string     { return fmt.Sprintf("m/%d/%02d", a.id, i) }
func (a *actor) anyKey() string       { return a.key(a.rng.Intn(ownKeys)) }
func (a *actor) chance(p int) bool    { return a.rng.Intn(100) < p }
func (a *actor) kv() *clientv3.Client { return a.r.clients[a.rng.Intn(len(a.r.clients))] }

func (a *actor) anyValue() string {
	a.serial++
	return fmt.Sprintf("%d-%d-%0*d", a.id, a.serial, a.rng.Intn(300), 0)
}

func (a *actor) work() {
	steps := []struct {
		weight int
		do     func(context.Context) error
	}{
		{26, a.put}, {14, a.get}, {6, a.getOld}, {5, a.getSerializable}, {9, a.rangeAll}, {9, a.delete},
		{14, a.txn}, {9, a.count}, {4, a.leaseGrant}, {2, a.leaseInfo}, {2, a.leaseRevoke},
	}
	sum := 0
	for _, step := range steps {
		sum += step.weight
	}
	for a.r.done.Add(1) <= a.r.total && a.r.tally.Failed() < 1000 {
		choice := a.rng.Intn(sum)
		for _, step := range steps {
			if choice -= step.weight; choice < 0 {
				ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
				if err := step.do(ctx); err != nil {
					a.r.tally.Fail("goroutine %d: %v", a.id, err)
				} else {
					a.r.tally.Pass()
				}
				cancel()
				break
			}
		}
	}
	a.r.done.Add(-1)
}

// wrote takes in the revision of an answered write.
func (a *actor) wrote(revision int64) error {
	if revision <= a.revision {
		return fmt.Errorf("a write got revision %d after %d", revision, a.revision)
	}
	a.revision = revision
	a.r.sawRevision(revision)
	return nil
}

// set records a put of the model's at a revision.
func (a *actor) set(key, value string, lease int64, revision int64) {
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: lease, Version: 1,
		CreateRevision: revision, ModRevision: revision}
	if old := a.live[key]; old != nil {
		kv.Version, kv.CreateRevision = old.Version+1, old.CreateRevision
	}
	a.live[key] = kv
	a.history[key] = append(a.history[key], change{revision, revision, kv})
}

func (a *actor) unset(key string, revision, after int64) {
	delete(a.live, key)
	a.history[key] = append(a.history[key], change{revision, after, nil})
}

func same(what string, got, want *mvccpb.KeyValue) error {
	if !harness.SameKV(got, want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func first(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

func (a *actor) put(ctx context.Context) error {
	key, value := a.anyKey(), a.anyValue()
	var options []clientv3.OpOption
	lease, old := int64(0), a.live[key]
	prev := a.chance(50)
	if prev {
		options = append(options, clientv3.WithPrevKV())
	}
	if len(a.leases) > 0 && a.chance(20) {
		lease = int64(a.leases[a.rng.Intn(len(a.leases))])
		options = append(options, clientv3.WithLease(clientv3.LeaseID(lease)))
	}
	ignoreValue := a.chance(5)
	if ignoreValue {
		options = append(options, clientv3.WithIgnoreValue())
		value = ""
	}
	ignoreLease := lease == 0 && a.chance(5)
	if ignoreLease {
		options = append(options, clientv3.WithIgnoreLease())
	}
	answer, err := a.kv().Put(ctx, key, value, options...)
	if (ignoreValue || ignoreLease) && old == nil {
		if !errors.Is(err, rpctypes.ErrKeyNotFound) {
			return fmt.Errorf("put of a missing key, ignoring its value or lease: %v", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if ignoreValue {
		value = string(old.Value)
	}
	if ignoreLease {
		lease = old.Lease
	}
	if err := a.wrote(answer.Header.Revision); err != nil {
		return err
	}
	a.set(key, value, lease, answer.Header.Revision)
	if prev {
		return same("put's prev_kv", answer.PrevKv, old)
	}
	return same("put's prev_kv", answer.PrevKv, nil)
}

// linearizable runs a read and checks that it is not older than any answer before it.
func (a *actor) linearizable(do func() (*clientv3.GetResponse, error)) (*clientv3.GetResponse, error) {
	floor := a.r.acked.Load()
	answer, err := do()
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if answer.Header.Revision < floor {
		return nil, fmt.Errorf("a linearizable read at %d after an answer at %d", answer.Header.Revision,
			floor)
	}
	a.r.sawRevision(answer.Header.Revision)
	return answer, nil
}

func (a *actor) get(ctx context.Context) error {
	key := a.anyKey()
	answer, err := a.linearizable(func() (*clientv3.GetResponse, error) { return a.kv().Get(ctx, key) })
	if err != nil {
		return err
	}
	want := a.live[key]
	if (want != nil) != (answer.Count == 1) || answer.More {
		return fmt.Errorf("get %s: count %d, more %v", key, answer.Count, answer.More)
	}
	return same("get "+key, first(answer.Kvs), want)
}

// A serializable read may be old, but it must have been true at its own revision.
func (a *actor) getSerializable(ctx context.Context) error {
	key := a.anyKey()
	answer, err := a.kv().Get(ctx, key, clientv3.WithSerializable())
	if err != nil {
		return fmt.Errorf("serializable get: %w", err)
	}
	want, known := a.at(key, answer.Header.Revision)
	if !known {
		return nil
	}
	return same(fmt.Sprintf("serializable get %s at %d", key, answer.Header.Revision),
		first(answer.Kvs), want)
}

// at is what a key was at a revision; false when the model does not know.
func (a *actor) at(key string, revision int64) (*mvccpb.KeyValue, bool) {
	var kv *mvccpb.KeyValue
	for _, c := range a.history[key] {
		if revision > c.after && revision < c.revision {
			return nil, false
		}
		if c.revision > revision {
			break
		}
		kv = c.kv
	}
	return kv, true
}

func (a *actor) getOld(ctx context.Context) error {
	key := a.anyKey()
	if a.revision == 0 {
		return a.get(ctx)
	}
	revision := 1 + a.rng.Int63n(a.revision)
	if changes := a.history[key]; len(changes) > 0 && a.chance(60) {
		revision = changes[a.rng.Intn(len(changes))].revision - int64(a.rng.Intn(2))
	}
	if a.chance(4) {
		_, err := a.kv().Get(ctx, key, clientv3.WithRev(a.revision+1000000000))
		if !errors.Is(err, rpctypes.ErrFutureRev) {
			return fmt.Errorf("get of a future revision: %v", err)
		}
		return nil
	}
	answer, err := a.kv().Get(ctx, key, clientv3.WithRev(revision))
	if err != nil {
		return fmt.Errorf("get at %d: %w", revision, err)
	}
	want, known := a.at(key, revision)
	if !known {
		return nil
	}
	return same(fmt.Sprintf("get %s at %d", key, revision), first(answer.Kvs), want)
}

// sorted is the live keys of [from, to) in an order.
func (a *actor) sorted(from, to string, target clientv3.SortTarget, descend bool) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for key, kv := range a.live {
		if key >= from && key < to {
			kvs = append(kvs, kv)
		}
	}
	less := map[clientv3.SortTarget]func(x, y *mvccpb.KeyValue) bool{
		clientv3.SortByKey:            func(x, y *mvccpb.KeyValue) bool { return string(x.Key) < string(y.Key) },
		clientv3.SortByVersion:        func(x, y *mvccpb.KeyValue) bool { return x.Version < y.Version },
		clientv3.SortByCreateRevision: func(x, y *mvccpb.KeyValue) bool { return x.CreateRevision < y.CreateRevision },
		clientv3.SortByModRevision:    func(x, y *mvccpb.KeyValue) bool { return x.ModRevision < y.ModRevision },
		clientv3.SortByValue:          func(x, y *mvccpb.KeyValue) bool { return string(x.Value) < string(y.Value) },
	}[target]
	sort.Slice(kvs, func(i, j int) bool {
		if descend {
			return less(kvs[j], kvs[i])
		}
		return less(kvs[i], kvs[j])
	})
	return kvs
}

func withoutValue(kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	if kv == nil {
		return nil
	}
	return &mvccpb.KeyValue{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease}
}

func (a *actor) rangeAll(ctx context.Context) error {
	from, to := a.prefix(), clientv3.GetPrefixRangeEnd(a.prefix())
	if a.chance(40) {
		from, to = a.key(a.rng.Intn(ownKeys)), a.key(a.rng.Intn(ownKeys))
		if from >= to {
			from, to = to, from+"\x00"
		}
	}
	// Values, revisions and keys are unique: their order is too. Versions are not.
	targets := []clientv3.SortTarget{clientv3.SortByKey, clientv3.SortByModRevision,
		clientv3.SortByValue}
	target, descend := targets[a.rng.Intn(len(targets))], a.chance(50)
	order := clientv3.SortAscend
	if descend {
		order = clientv3.SortDescend
	}
	options := []clientv3.OpOption{clientv3.WithRange(to), clientv3.WithSort(target, order)}
	want := a.sorted(from, to, target, descend)
	count, more := int64(len(want)), false
	if a.chance(40) {
		limit := 1 + a.rng.Intn(6)
		options = append(options, clientv3.WithLimit(int64(limit)))
		if len(want) > limit {
			want, more = want[:limit], true
		}
	}
	keysOnly, countOnly := a.chance(15), a.chance(10)
	if keysOnly {
		options = append(options, clientv3.WithKeysOnly())
	}
	if countOnly {
		options = append(options, clientv3.WithCountOnly())
		want, more = nil, false
	}
	if target == clientv3.SortByValue {
		// Two keys may hold one value (a put that ignores it); keys-only sorting has none to sort by.
		options = options[:1]
		want, more = a.sorted(from, to, clientv3.SortByKey, false), false
		keysOnly, countOnly = false, false
	}
	answer, err := a.linearizable(func() (*clientv3.GetResponse, error) {
		return a.kv().Get(ctx, from, options...)
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("range [%s, %s) sorted by %d, descend %v", from, to, target, descend)
	if answer.Count != count || answer.More != (more && !countOnly) || len(answer.Kvs) != len(want) {
		return fmt.Errorf("%s: count %d more %v kvs %d, want count %d more %v kvs %d", what, answer.Count,
			answer.More, len(answer.Kvs), count, more, len(want))
	}
	for i, kv := range answer.Kvs {
		expected := want[i]
		if keysOnly {
			expected = withoutValue(expected)
		}
		if target == clientv3.SortByModRevision && kv.ModRevision == expected.ModRevision {
			// What one transaction wrote has no order among itself.
			expected = a.live[string(kv.Key)]
			if keysOnly {
				expected = withoutValue(expected)
			}
		}
		if keysOnly {
			// etcd leaves the lease out of keys that it returns without their values.
			expected.Lease = kv.Lease
		}
		if err := same(what, kv, expected); err != nil {
			return err
		}
	}
	return nil
}

func (a *actor) delete(ctx context.Context) error {
	from, to := a.anyKey(), ""
	options := []clientv3.OpOption{}
	if a.chance(25) {
		to = a.key(a.rng.Intn(ownKeys)) + "\x00"
		if from >= to {
			from, to = a.key(0), from
		}
		options = append(options, clientv3.WithRange(to))
	}
	want := a.sorted(from, from+"\x00", clientv3.SortByKey, false)
	if to != "" {
		want = a.sorted(from, to, clientv3.SortByKey, false)
	}
	prev := a.chance(50)
	if prev {
		options = append(options, clientv3.WithPrevKV())
	}
	answer, err := a.kv().Delete(ctx, from, options...)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if answer.Deleted != int64(len(want)) {
		return fmt.Errorf("delete [%s, %s): %d deleted, want %d", from, to, answer.Deleted, len(want))
	}
	if len(want) == 0 {
		return nil
	}
	if err := a.wrote(answer.Header.Revision); err != nil {
		return err
	}
	for _, kv := range want {
		a.unset(string(kv.Key), answer.Header.Revision, answer.Header.Revision)
	}
	if !prev {
		want = nil
	}
	if len(answer.PrevKvs) != len(want) {
		return fmt.Errorf("delete: %d prev_kvs, want %d", len(answer.PrevKvs), len(want))
	}
	for i := range want {
		if err := same("delete's prev_kv", answer.PrevKvs[i], want[i]); err != nil {
			return err
		}
	}
	return nil
}

// compare makes a comparison on an own key and says whether it holds.
func (a *actor) compare() (clientv3.Cmp, bool) {
	key := a.anyKey()
	kv := a.live[key]
	if kv == nil {
		kv = &mvccpb.KeyValue{}
	}
	operators := []string{"=", "!=", "<", ">"}
	operator := operators[a.rng.Intn(len(operators))]
	holds := func(left, right int64) bool {
		switch operator {
		case "=":
			return left == right
		case "!=":
			return left != right
		case "<":
			return left < right
		}
		return left > right
	}
	near := int64(a.rng.Intn(3) - 1)
	switch a.rng.Intn(5) {
	case 0:
		return clientv3.Compare(clientv3.Version(key), operator, kv.Version+near),
			holds(kv.Version, kv.Version+near)
	case 1:
		return clientv3.Compare(clientv3.CreateRevision(key), operator, kv.CreateRevision+near),
			holds(kv.CreateRevision, kv.CreateRevision+near)
	case 2:
		return clientv3.Compare(clientv3.ModRevision(key), operator, kv.ModRevision+near),
			holds(kv.ModRevision, kv.ModRevision+near)
	case 3:
		return clientv3.Compare(clientv3.LeaseValue(key), "=", kv.Lease), true
	}
	if a.live[key] == nil {
		// The value of a missing key equals nothing, whatever the operator.
		return clientv3.Compare(clientv3.Value(key), operator, "x"), false
	}
	value := string(kv.Value)
	if near != 0 {
		value += "~"
	}
	order := int64(0)
	if string(kv.Value) < value {
		order = -1
	}
	return clientv3.Compare(clientv3.Value(key), operator, value), holds(order, 0)
}

// A transaction of the model: what was asked, and how to check the answer and take it in.
type effect func(answer *clientv3.OpResponse, revision int64) error

func (a *actor) branch(depth int, used map[string]bool) ([]clientv3.Op, []effect) {
	var ops []clientv3.Op
	var effects []effect
	for n := a.rng.Intn(4); n > 0; n-- {
		key := a.anyKey()
		if used[key] {
			continue
		}
		used[key] = true
		switch {
		case a.chance(50):
			value := a.anyValue()
			ops = append(ops, clientv3.OpPut(key, value, clientv3.WithPrevKV()))
			effects = append(effects, func(answer *clientv3.OpResponse, revision int64) error {
				old := a.live[key]
				a.set(key, value, 0, revision)
				return same("txn put's prev_kv", answer.Put().PrevKv, old)
			})
		case a.chance(40):
			ops = append(ops, clientv3.OpDelete(key, clientv3.WithPrevKV()))
			effects = append(effects, func(answer *clientv3.OpResponse, revision int64) error {
				old := a.live[key]
				if old != nil {
					a.unset(key, revision, revision)
				}
				return same("txn delete's prev_kv", first(answer.Del().PrevKvs), old)
			})
		case depth < 2 && a.chance(50):
			op, inner := a.transaction(depth+1, used, false)
			ops = append(ops, op)
			effects = append(effects, inner)
		default:
			ops = append(ops, clientv3.OpGet(key))
			effects = append(effects, func(answer *clientv3.OpResponse, revision int64) error {
				return same("txn get "+key, first(answer.Get().Kvs), a.live[key])
			})
		}
	}
	return ops, effects
}

// transaction makes one. No key is used twice in it, so that comparisons, which all look at the state
// before the first write, can be judged beforehand.
// One that only compares may be answered from an old state: `fresh` adds a read that may not.
func (a *actor) transaction(depth int, used map[string]bool, fresh bool) (clientv3.Op, effect) {
	succeeds := true
	var compares []clientv3.Cmp
	for n := a.rng.Intn(3); n > 0; n-- {
		compare, holds := a.compare()
		compares = append(compares, compare)
		succeeds = succeeds && holds
	}
	thenOps, thenEffects := a.branch(depth, used)
	elseOps, elseEffects := a.branch(depth, used)
	if fresh {
		key := a.anyKey()
		was := a.live[key]
		thenOps = append([]clientv3.Op{clientv3.OpGet(key)}, thenOps...)
		thenEffects = append([]effect{func(answer *clientv3.OpResponse, revision int64) error {
			return same("txn get "+key, first(answer.Get().Kvs), was)
		}}, thenEffects...)
	}
	effects := elseEffects
	if succeeds {
		effects = thenEffects
	}
	return clientv3.OpTxn(compares, thenOps, elseOps), func(answer *clientv3.OpResponse, revision int64) error {
		txn := answer.Txn()
		if txn.Succeeded != succeeds || len(txn.Responses) != len(effects) {
			return fmt.Errorf("txn %v: succeeded %v with %d responses, want %v with %d", compares,
				txn.Succeeded, len(txn.Responses), succeeds, len(effects))
		}
		var wrong error
		for i, take := range effects {
			op := opResponse(txn, i)
			if err := take(&op, revision); err != nil {
				wrong = err
			}
		}
		return wrong
	}
}

func opResponse(txn *clientv3.TxnResponse, i int) clientv3.OpResponse {
	r := txn.Responses[i]
	switch {
	case r.GetResponsePut() != nil:
		return (*clientv3.PutResponse)(r.GetResponsePut()).OpResponse()
	case r.GetResponseRange() != nil:
		return (*clientv3.GetResponse)(r.GetResponseRange()).OpResponse()
	case r.GetResponseDeleteRange() != nil:
		return (*clientv3.DeleteResponse)(r.GetResponseDeleteRange()).OpResponse()
	}
	return (*clientv3.TxnResponse)(r.GetResponseTxn()).OpResponse()
}

func (a *actor) txn(ctx context.Context) error {
	op, take := a.transaction(0, map[string]bool{}, true)
	before := a.changes()
	floor := a.r.acked.Load()
	answer, err := a.kv().Do(ctx, op)
	if err != nil {
		return fmt.Errorf("txn: %w", err)
	}
	revision := answer.Txn().Header.Revision
	if revision < floor {
		return fmt.Errorf("a txn at %d after an answer at %d", revision, floor)
	}
	if err := take(&answer, revision); err != nil {
		return err
	}
	if a.changes() > before {
		return a.wrote(revision)
	}
	a.r.sawRevision(revision)
	return nil
}

func (a *actor) changes() int {
	count := 0
	for _, changes := range a.history {
		count += len(changes)
	}
	return count
}

// count raises a shared counter by one.
func (a *actor) count(ctx context.Context) error {
	i := a.rng.Intn(sharedCounters)
	key := counterKey(i)
	value, revision := 0, int64(0)
	got, err := a.linearizable(func() (*clientv3.GetResponse, error) { return a.kv().Get(ctx, key) })
	if err != nil {
		return err
	}
	if kv := first(got.Kvs); kv != nil {
		value, _ = strconv.Atoi(string(kv.Value))
		revision = kv.ModRevision
		if kv.Version != int64(value) {
			return fmt.Errorf("counter %s has value %d in version %d", key, value, kv.Version)
		}
	}
	next := strconv.Itoa(value + 1)
	answer, err := a.kv().Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, next)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return fmt.Errorf("counter: %w", err)
	}
	if answer.Succeeded {
		a.r.mu.Lock()
		defer a.r.mu.Unlock()
		if a.r.counters[i][next] {
			return fmt.Errorf("counter %s was raised to %s twice", key, next)
		}
		a.r.counters[i][next] = true
		return a.wrote(answer.Header.Revision)
	}
	kv := first(answer.Responses[0].GetResponseRange().Kvs)
	if kv == nil || kv.ModRevision <= revision {
		return fmt.Errorf("counter %s: the comparison failed, but it is still at %d", key, revision)
	}
	return nil
}
