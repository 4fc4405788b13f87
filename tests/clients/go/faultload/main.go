// Faultload writes to a cluster whose members are killed, and proves that nothing was lost.
//
// It is told by lines on standard input what to do, and answers each with one line:
//
//	check   all members are up: stop writing, compare everything, go on writing  -> "ok ..." or "FAILED"
//	quit    print the closing line and end
//
// What a check proves, for the writes since the last one:
//   - every acknowledged write is an event with the revision and content that the answer told;
//   - the watchers, one per member, which live through the kills, saw the same events in the same
//     order, each once, with no version of a key left out;
//   - what each member holds (serializable, every field) is what the events say;
//   - HashKV at that revision is the same on all members, where they serve it.
//
// A write whose answer was an error may have happened or not; everything else may not be in doubt.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

const (
	prefix       = "f/"
	checkTimeout = 60 * time.Second
	markerKey    = prefix + "~marker"

	// Some write values so large that the log has them in pieces, between the others'.
	largeWriters  = 2
	largeBytesMax = 600000
)

// A write that was acknowledged.
type ack struct {
	key, value string // value of a deletion: ""
	revision   int64
	deleted    bool
}

type load struct {
	tally   harness.Tally
	clients []*clientv3.Client
	all     *clientv3.Client // of all members, as an application would use it
	gate    sync.RWMutex     // held for reading while a write is under way, for writing by a check
	mu      sync.Mutex
	acks    []ack
	errors  int
	total   int
	follow  []*follower
	checks  int
	hashes  int
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "of all members, separated by commas")
	writers := flag.Int("writers", 16, "goroutines")
	seed := flag.Int64("seed", 1, "of the choices")
	flag.Parse()
	l := &load{}
	members := strings.Split(*endpoints, ",")
	config := clientv3.Config{DialTimeout: 20 * time.Second, MaxCallRecvMsgSize: 1 << 30,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second}
	for _, endpoint := range members {
		config.Endpoints = []string{endpoint}
		l.clients = append(l.clients, harness.Connect(config))
	}
	config.Endpoints = members
	l.all = harness.Connect(config)
	for i := range l.clients {
		l.follow = append(l.follow, newFollower(l, i))
	}
	for i := 0; i < *writers; i++ {
		go l.write(i, rand.New(rand.NewSource(*seed*1000+int64(i))))
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch input.Text() {
		case "check":
			fmt.Println(l.check())
		case "quit":
			fmt.Printf("%d writes acknowledged, %d in doubt, %d checks, %d of them with HashKV\n",
				l.total, l.errors, l.checks, l.hashes)
			l.tally.Finish()
		}
	}
}

// write never ends: one write after another on keys of its own.
func (l *load) write(id int, rng *rand.Rand) {
	for serial := 0; ; serial++ {
		l.gate.RLock()
		key := fmt.Sprintf("%s%02d/%02d", prefix, id, rng.Intn(40))
		size := rng.Intn(400)
		if id < largeWriters && rng.Intn(4) == 0 {
			size = rng.Intn(largeBytesMax)
		}
		value := fmt.Sprintf("%d-%d-%0*d", id, serial, size, 0)
		client := l.all
		if rng.Intn(2) == 0 {
			client = l.clients[rng.Intn(len(l.clients))]
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		done, err := one(ctx, client, rng, key, value)
		cancel()
		l.mu.Lock()
		if err != nil {
			l.errors++
		} else {
			l.acks = append(l.acks, done...)
			l.total += len(done)
		}
		l.mu.Unlock()
		l.gate.RUnlock()
		if err != nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// one makes one write and returns what was acknowledged.
func one(ctx context.Context, client *clientv3.Client, rng *rand.Rand, key, value string) ([]ack, error) {
	switch rng.Intn(10) {
	case 0:
		answer, err := client.Delete(ctx, key)
		if err != nil || answer.Deleted == 0 {
			return nil, err
		}
		return []ack{{key, "", answer.Header.Revision, true}}, nil
	case 1, 2:
		second := key + "+"
		answer, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), ">", 0)).
			Then(clientv3.OpPut(key, value), clientv3.OpPut(second, value)).
			Else(clientv3.OpPut(key, value)).Commit()
		if err != nil {
			return nil, err
		}
		done := []ack{{key, value, answer.Header.Revision, false}}
		if answer.Succeeded {
			done = append(done, ack{second, value, answer.Header.Revision, false})
		}
		return done, nil
	}
	answer, err := client.Put(ctx, key, value)
	if err != nil {
		return nil, err
	}
	return []ack{{key, value, answer.Header.Revision, false}}, nil
}

// check stops the writers and compares; the text is one line.
func (l *load) check() string {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.checks++
	failedBefore := l.tally.Failed()
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	var marker *clientv3.PutResponse
	var err error
	for { // the last election may not be over
		if marker, err = l.all.Put(ctx, markerKey, fmt.Sprint(l.checks)); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		l.tally.Fail("check %d: no write goes through: %v", l.checks, err)
		return "FAILED"
	}
	revision := marker.Header.Revision
	var reference map[eventName]string
	var sum uint64
	for i, f := range l.follow {
		events, eventsSum, err := f.until(ctx, revision)
		if err != nil {
			l.tally.Fail("check %d, watcher of member %d: %v", l.checks, i, err)
			return "FAILED"
		}
		if i == 0 {
			reference, sum = events, eventsSum
		} else if sum != eventsSum {
			l.tally.Fail("check %d: the watcher of member %d saw other events than that of member 0 "+
				"(%d and %d)", l.checks, i, len(events), len(reference))
		} else {
			l.tally.Pass()
		}
		l.checkContents(ctx, i, f.replay, revision)
	}
	l.checkAcks(reference)
	l.checkHashes(ctx, revision)
	if l.checks%3 == 0 {
		if _, err := l.all.Compact(ctx, revision); err != nil {
			l.tally.Fail("check %d: compaction: %v", l.checks, err)
		}
	}
	if l.tally.Failed() > failedBefore {
		return "FAILED"
	}
	return fmt.Sprintf("ok revision %d events %d acknowledged %d in doubt %d", revision, len(reference),
		l.total, l.errors)
}

type eventName struct {
	key      string
	revision int64
}

func (l *load) checkAcks(events map[eventName]string) {
	for _, a := range l.acks {
		want := "put " + a.value
		if a.deleted {
			want = "deleted"
		}
		got, there := events[eventName{a.key, a.revision}]
		if !there || got != want {
			l.tally.Fail("check %d: acknowledged %s of %s at %d; the event is %q", l.checks, want, a.key,
				a.revision, got)
		} else {
			l.tally.Pass()
		}
	}
	l.acks = l.acks[:0]
}

func (l *load) checkContents(ctx context.Context, member int, replay *harness.Replay, revision int64) {
	got, err := l.clients[member].Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSerializable(),
		clientv3.WithRev(revision))
	if err == nil {
		err = replay.Compare(got.Kvs)
	}
	if err != nil {
		l.tally.Fail("check %d, contents of member %d at %d: %v", l.checks, member, revision, err)
		return
	}
	l.tally.Pass()
}

func (l *load) checkHashes(ctx context.Context, revision int64) {
	var sums []string
	for i, client := range l.clients {
		answer, err := client.HashKV(ctx, client.Endpoints()[0], revision)
		if status.Code(err) == codes.Unimplemented {
			return
		}
		if err != nil {
			l.tally.Fail("check %d, hash of member %d: %v", l.checks, i, err)
			return
		}
		sums = append(sums, fmt.Sprint(answer.Hash, answer.CompactRevision, answer.HashRevision))
	}
	l.hashes++
	for _, sum := range sums[1:] {
		if sum != sums[0] {
			l.tally.Fail("check %d: hashes differ: %v", l.checks, sums)
			return
		}
	}
	l.tally.Pass()
}

// A follower watches the prefix on one member, through everything, and keeps the events since the
// last check.
type follower struct {
	replay *harness.Replay
	mu     sync.Mutex
	events map[eventName]string
	sum    uint64
	seen   int64
	err    error
}

func newFollower(l *load, member int) *follower {
	f := &follower{replay: harness.NewReplay(), events: map[eventName]string{}, sum: 1}
	channel := l.clients[member].Watch(context.Background(), prefix, clientv3.WithPrefix(),
		clientv3.WithPrevKV(), clientv3.WithRev(1))
	go func() {
		for response := range channel {
			f.take(&response)
		}
		f.fail(fmt.Errorf("the watch ended"))
	}()
	return f
}

func (f *follower) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *follower) take(response *clientv3.WatchResponse) {
	if err := response.Err(); err != nil {
		f.fail(err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	hash := fnv.New64a()
	for _, ev := range response.Events {
		if err := f.replay.Apply(ev); err != nil {
			if f.err == nil {
				f.err = err
			}
			return
		}
		text := "deleted"
		if ev.Type != clientv3.EventTypeDelete {
			text = "put " + string(ev.Kv.Value)
		}
		f.events[eventName{string(ev.Kv.Key), ev.Kv.ModRevision}] = text
		hash.Reset()
		fmt.Fprint(hash, describe(ev.Kv), text)
		f.sum = f.sum*31 + hash.Sum64()
		f.seen = ev.Kv.ModRevision
	}
}

func describe(kv *mvccpb.KeyValue) string {
	return fmt.Sprintf("%q %d %d %d %d ", kv.Key, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
}

// until waits for the marker's event and hands over what was kept.
func (f *follower) until(ctx context.Context, revision int64) (map[eventName]string, uint64, error) {
	for {
		f.mu.Lock()
		if f.err != nil || f.seen >= revision {
			break
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("has seen %d, not yet %d", f.seen, revision)
		case <-time.After(5 * time.Millisecond):
		}
	}
	defer f.mu.Unlock()
	events := f.events
	f.events = map[eventName]string{}
	return events, f.sum, f.err
}
