// Robust reads and writes a cluster under faults, and judges everything that it was answered.
//
// It is told by lines on standard input what to do, and answers each with one line:
//
//	check   the faults are over: stop, judge what happened since the last check, go on
//	        -> "ok ..." or "FAILED"
//	quit    print the closing line and end
//
// What a check proves, for the operations since the last one:
//   - what a watch from the last check's revision tells is the same on every member: the history of
//     revisions, without a gap (store.go);
//   - every answer, of every field, is what that history says at the answer's revision; nobody but an
//     operation whose outcome is unknown made the other revisions; nothing that began after another's end
//     has an earlier revision; nothing that a watcher had been told is missing in a later read
//     (history.go). That is linearizability, of all keys together, for a store that tells revisions;
//   - porcupine finds an order of the operations on each key (linear.go);
//   - every watcher, through all its reconnections, was told exactly the history of its range: ordered,
//     once, without a gap, a revision in one message, nothing after a bookmark that it covers, prev_kv
//     right (intake.go);
//   - each member's contents and HashKV at the last revision are equal.
//
// `robust selftest` feeds these judges wrong histories and requires them to complain.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"trivet.test/clients/internal/harness"
)

const (
	checkTimeout     = 60 * time.Second
	porcupineTimeout = 60 * time.Second
	openKept         = 4000 // writes of unknown outcome that may still turn up
)

type robust struct {
	run
	tally    harness.Tally
	members  []*clientv3.Client
	all      *clientv3.Client
	watchers []*watcher
	t        *timeline
	open     []*op // from earlier rounds
	rounds   int
	out      string
}

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "of all members, separated by commas")
	actors := flag.Int("actors", 12, "goroutines")
	seed := flag.Int64("seed", 1, "of the choices")
	out := flag.String("out", ".", "folder for what a failing round leaves")
	flag.Parse()
	if flag.Arg(0) == "selftest" {
		selftest(*seed)
	}
	r := &robust{run: run{begin: time.Now()}, t: newTimeline(2), out: *out}
	list := strings.Split(*endpoints, ",")
	for _, endpoint := range list {
		r.members = append(r.members, connect(endpoint))
	}
	r.all = connect(list...)
	r.watch(list, *seed)
	for i := 0; i < *actors; i++ {
		client := connect(list[i%len(list)])
		if i%4 == 3 { // some know all members and choose among them
			client = connect(list...)
		}
		a := &actor{id: i, client: client, rng: rand.New(rand.NewSource(*seed*1000 + int64(i))), run: &r.run,
			seen: map[string]kv{}}
		go a.live()
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch input.Text() {
		case "check":
			fmt.Println(r.check())
		case "quit":
			r.summary()
			r.tally.Finish()
		}
	}
}

func connect(endpoints ...string) *clientv3.Client {
	return harness.Connect(clientv3.Config{Endpoints: endpoints, DialTimeout: 20 * time.Second,
		MaxCallRecvMsgSize: 1 << 30, DialKeepAliveTime: 10 * time.Second,
		DialKeepAliveTimeout: 15 * time.Second})
}

func (r *robust) watch(list []string, seed int64) {
	everything := wish{key: "\x00", end: "\xff", prev: true, fragment: true, notify: true}
	add := func(client *clientv3.Client, w wish, raw, leader bool, name string) {
		w.name = fmt.Sprintf("%s (%d)", name, len(r.watchers))
		r.watchers = append(r.watchers, startWatcher(client, w, raw, leader, r.begin,
			seed*77+int64(len(r.watchers))))
	}
	for i, endpoint := range list {
		add(connect(endpoint), everything, true, false, fmt.Sprintf("raw, all, member %d", i))
		plain := wish{key: keyPrefix, end: keyEnd, notify: true}
		add(connect(endpoint), plain, true, i == 1, fmt.Sprintf("raw, keys, member %d", i))
	}
	one := wish{key: keyName(0), prev: true, notify: true}
	at := func(i int) *clientv3.Client { return connect(list[i%len(list)]) }
	add(at(0), one, true, false, "raw, one key")
	late := everything
	late.fromNow, late.fragment = true, false
	add(at(1), late, true, false, "raw, from now on")
	puts := wish{key: keyPrefix, end: keyEnd, noDel: true, prev: true}
	add(at(2), puts, true, false, "raw, puts")
	deletions := wish{key: keyPrefix, end: keyEnd, noPut: true, prev: true}
	add(at(0), deletions, true, false, "raw, deletions")
	add(connect(list...), everything, false, true, "clientv3, any member that has a leader")
	all := everything
	all.fragment, all.prev = false, false
	add(at(1), all, false, false, "clientv3, without prev_kv")
}

// history reads the revisions after the timeline's last, up to one, from a member.
func history(ctx context.Context, client *clientv3.Client, from, to int64) ([]event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var events []event
	for answer := range client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithPrevKV(),
		clientv3.WithRev(from), clientv3.WithFragment()) {
		if err := answer.Err(); err != nil {
			return nil, err
		}
		for _, ev := range answer.Events {
			e := toEvent(ev, true)
			if e.rev > to {
				return events, nil
			}
			events = append(events, e)
		}
		if n := len(events); n > 0 && events[n-1].rev == to {
			return events, nil
		}
	}
	return nil, fmt.Errorf("the watch ended: %v", ctx.Err())
}

// mark writes a last key and returns its revision.
func (r *robust) mark(ctx context.Context) (int64, error) {
	for {
		o := &op{id: r.nextID(), client: -1, call: r.now()}
		value := fmt.Sprintf("round %d, %d", r.rounds, o.id)
		o.req.then = []action{{kind: actPut, key: markerKey, value: value, bytes: []byte(value)}}
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		answer, err := r.all.Put(once, markerKey, value)
		cancel()
		if err == nil {
			o.ret = r.now()
			o.answer = &response{true, answer.Header.Revision, []result{{}}}
			r.took(o)
			return answer.Header.Revision, nil
		}
		o.ret, o.err = never, err.Error()
		r.took(o)
		if ctx.Err() != nil {
			return 0, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *robust) check() string {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.rounds++
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	began := time.Now()
	from := r.t.last
	end, err := r.mark(ctx)
	if err != nil {
		r.tally.Fail("round %d: no write goes through: %v", r.rounds, err)
		return "FAILED"
	}
	failedBefore := r.tally.Failed()
	initial := r.snapshot()
	r.judge(r.extend(ctx, end))
	ops := r.ops
	r.ops = nil
	if r.tally.Failed() == failedBefore {
		r.judgeHistory(ctx, ops, initial, from, end)
		r.judge(r.contents(ctx, end))
	}
	if r.tally.Failed() > failedBefore {
		r.leave(ops)
		return "FAILED"
	}
	if r.rounds%3 == 0 { // all are past this
		if _, err := r.all.Compact(ctx, end); err != nil {
			fmt.Printf("round %d: no compaction: %v\n", r.rounds, err)
		}
	}
	return fmt.Sprintf("ok revisions %d-%d, %d operations, checked in %.1f s", from+1, end, len(ops),
		time.Since(began).Seconds())
}

func (r *robust) judge(wrong []string) {
	for _, text := range wrong {
		r.tally.Fail("round %d: %s", r.rounds, text)
	}
	if len(wrong) == 0 {
		r.tally.Pass()
	}
}

// snapshot is what porcupine begins from.
func (r *robust) snapshot() func(key string) keyState {
	states := map[string]keyState{}
	floor := max(r.t.last, 1)
	for _, key := range r.t.keys {
		states[key] = keyState{r.t.at(key, floor), floor}
	}
	return func(key string) keyState {
		if s, ok := states[key]; ok {
			return s
		}
		return keyState{floor: floor}
	}
}

// extend adds the round's revisions to the timeline, as each member tells them.
func (r *robust) extend(ctx context.Context, end int64) (wrong []string) {
	from := r.t.last + 1
	var first []event
	for i, client := range r.members {
		events, err := history(ctx, client, from, end)
		if err != nil {
			return []string{fmt.Sprintf("the history of member %d from %d: %v", i, from, err)}
		}
		if i == 0 {
			first = events
			for _, e := range events {
				if err := r.t.add(e); err != nil {
					return []string{"the history: " + err.Error()}
				}
			}
			if r.t.last != end {
				return []string{fmt.Sprintf("the history ends at %d, not at %d", r.t.last, end)}
			}
			continue
		}
		if len(events) != len(first) {
			return []string{fmt.Sprintf("member %d tells %d events, member 0 %d", i, len(events), len(first))}
		}
		for j := range events {
			if events[j] != first[j] {
				return []string{fmt.Sprintf("member %d tells %v, member 0 %v", i, events[j], first[j])}
			}
		}
	}
	return nil
}

func (r *robust) judgeHistory(ctx context.Context, ops []*op, initial func(string) keyState, from,
	end int64) {
	var seen []sighting
	for _, w := range r.watchers {
		s, wrong := w.check(ctx, r.t, end)
		seen = append(seen, s...)
		r.judge(wrong)
	}
	open := append([]*op(nil), r.open...)
	for _, o := range ops {
		if o.answer == nil {
			open = append(open, o)
		}
	}
	took, wrong := checkHistory(r.t, ops, open, seen, from)
	r.judge(wrong)
	keys, wrong := checkLinear(ops, took, initial, porcupineTimeout, func(key string) string {
		return filepath.Join(r.out, fmt.Sprintf("round-%d-%s.html", r.rounds, strings.ReplaceAll(key, "/", "_")))
	})
	r.judge(wrong)
	for range keys - 1 {
		r.tally.Pass()
	}
	gone := map[int]bool{}
	for _, o := range took {
		gone[o.id] = true
	}
	r.open = r.open[:0]
	for _, o := range open {
		if !gone[o.id] {
			r.open = append(r.open, o)
		}
	}
	if len(r.open) > openKept {
		r.open = r.open[len(r.open)-openKept:]
	}
}

// contents compares what each member holds, and the hashes.
func (r *robust) contents(ctx context.Context, end int64) (wrong []string) {
	want, _ := execute(r.t, &request{then: []action{{kind: actGet, key: "\x00", end: "\xff"}}}, end, end)
	hashes := map[string]bool{}
	for i, client := range r.members {
		got, err := client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithSerializable(),
			clientv3.WithRev(end))
		if err != nil {
			return []string{fmt.Sprintf("contents of member %d: %v", i, err)}
		}
		if !sameResults(want.results, []result{{kvs: toKeyed(got.Kvs)}}) {
			wrong = append(wrong, fmt.Sprintf("contents of member %d at %d are not what the history says", i, end))
		}
		hash, err := client.HashKV(ctx, client.Endpoints()[0], end)
		if err != nil {
			return append(wrong, fmt.Sprintf("hash of member %d: %v", i, err))
		}
		hashes[fmt.Sprint(hash.Hash, " ", hash.CompactRevision)] = true
	}
	if len(hashes) != 1 {
		wrong = append(wrong, fmt.Sprintf("hashes at %d: %v", end, hashes))
	}
	return wrong
}

// leave writes the round's operations and revisions, for a look.
func (r *robust) leave(ops []*op) {
	file, err := os.Create(filepath.Join(r.out, fmt.Sprintf("round-%d-history.jsonl", r.rounds)))
	if err != nil {
		return
	}
	defer file.Close()
	out := json.NewEncoder(file)
	for _, o := range ops {
		_ = out.Encode(map[string]any{"id": o.id, "client": o.client, "call": o.call, "return": o.ret,
			"text": o.String()})
	}
	for _, e := range r.t.events {
		_ = out.Encode(map[string]any{"revision": e.rev, "key": e.key, "deleted": e.deleted,
			"text": fmt.Sprint(e.now, " before ", e.before)})
	}
	fmt.Printf("left: %s\n", file.Name())
}

func (r *robust) summary() {
	var events, messages, fragments, bookmarks, resumes int
	for _, w := range r.watchers {
		w.mu.Lock()
		s := w.record.stats
		w.mu.Unlock()
		events, messages, fragments = events+s.events, messages+s.messages, fragments+s.fragments
		bookmarks, resumes = bookmarks+s.bookmarks, resumes+s.resumes
	}
	fmt.Printf("%d operations, %d failed, %d of them writes in doubt; %d revisions; %d watchers: %d events, "+
		"%d messages, %d fragments, %d bookmarks, %d resumptions\n", r.total, r.failed, r.doubted,
		r.t.last, len(r.watchers), events, messages, fragments, bookmarks, resumes)
	if r.rounds > 0 && (fragments == 0 || bookmarks == 0 || resumes == 0) {
		r.tally.Fail("nothing was seen of fragments, bookmarks or resumptions")
	}
}
