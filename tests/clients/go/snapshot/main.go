// Snapshot makes histories and looks at what came of them, for the tests of snapshot files.
//
//	snapshot history ENDPOINT...   the same random changes to each of them
//	snapshot state ENDPOINT        all there is to see, as text: equal states give equal texts
//	snapshot hashes ENDPOINT...    HashKV of each at random revisions, compared
//	snapshot hash ENDPOINT         Maintenance.Hash
//	snapshot load ENDPOINT         puts, one after another, until stdin ends; latencies
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sort"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"trivet.test/clients/internal/harness"
)

type server struct {
	kv    pb.KVClient
	lease pb.LeaseClient
	mt    pb.MaintenanceClient
}

func connect(endpoint string) *server {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	must(err)
	return &server{pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ctx() context.Context {
	c, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	time.AfterFunc(61*time.Second, cancel)
	return c
}

// --- history ---

type writer struct {
	servers  []*server
	rng      *rand.Rand
	revision int64
	compact  int64
	leases   []int64
	nextID   int64
}

func (w *writer) each(do func(s *server) error) {
	for _, s := range w.servers {
		must(do(s))
	}
}

func put(key string, value []byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: value, Lease: lease}}}
}

func del(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

// One transaction of up to `count` changes of different keys.
func (w *writer) txn(keys, count int) {
	t := &pb.TxnRequest{}
	used := map[string]bool{}
	for i := 0; i < count; i++ {
		key := fmt.Sprintf("key/%06d", w.rng.Intn(keys))
		if used[key] {
			continue
		}
		used[key] = true
		if w.rng.Intn(4) == 0 {
			t.Success = append(t.Success, del(key))
			continue
		}
		lease := int64(0)
		if len(w.leases) > 0 && w.rng.Intn(10) == 0 {
			lease = w.leases[w.rng.Intn(len(w.leases))]
		}
		value := make([]byte, w.rng.Intn(60))
		w.rng.Read(value)
		t.Success = append(t.Success, put(key, value, lease))
	}
	w.each(func(s *server) error {
		r, err := s.kv.Txn(ctx(), t)
		if err == nil {
			w.revision = r.Header.Revision
		}
		return err
	})
}

func (w *writer) big() {
	value := make([]byte, 1<<20+w.rng.Intn(1<<18))
	w.rng.Read(value)
	w.each(func(s *server) error {
		_, err := s.kv.Put(ctx(), &pb.PutRequest{Key: []byte(fmt.Sprintf("big/%d", w.rng.Intn(1))), Value: value})
		return err
	})
}

func (w *writer) grant() {
	id, ttl := w.nextID, int64(3000+w.rng.Intn(6000))
	w.nextID++
	w.leases = append(w.leases, id)
	w.each(func(s *server) error {
		_, err := s.lease.LeaseGrant(ctx(), &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		return err
	})
}

func (w *writer) revoke() {
	i := w.rng.Intn(len(w.leases))
	id := w.leases[i]
	w.leases = append(w.leases[:i], w.leases[i+1:]...)
	w.each(func(s *server) error {
		_, err := s.lease.LeaseRevoke(ctx(), &pb.LeaseRevokeRequest{ID: id})
		return err
	})
}

func (w *writer) compaction() {
	if w.revision <= w.compact+2 {
		return
	}
	w.compact += 1 + w.rng.Int63n(w.revision-w.compact-1)
	w.each(func(s *server) error {
		_, err := s.kv.Compact(ctx(), &pb.CompactionRequest{Revision: w.compact, Physical: w.rng.Intn(2) == 0})
		return err
	})
}

func history(args []string) {
	f := flag.NewFlagSet("history", flag.ExitOnError)
	seed := f.Int64("seed", 1, "")
	ops := f.Int("ops", 500, "transactions and other requests")
	keys := f.Int("keys", 300, "that are changed at random")
	fill := f.Int("fill", 0, "keys put before that")
	big := f.Int("big", 0, "values of 1 MiB")
	compact := f.Bool("compact", true, "now and then")
	leases := f.Int64("leases", 5000, "the id of the first lease")
	must(f.Parse(args))
	w := &writer{rng: rand.New(rand.NewSource(*seed)), nextID: *leases}
	for _, e := range f.Args() {
		w.servers = append(w.servers, connect(e))
	}
	w.compact = w.servers[0].compacted()
	for i := 0; i < *fill; i += 100 {
		t := &pb.TxnRequest{}
		for j := i; j < i+100 && j < *fill; j++ {
			t.Success = append(t.Success, put(fmt.Sprintf("fill/%07d", j), []byte(fmt.Sprintf("value of %d", j)), 0))
		}
		w.each(func(s *server) error { _, err := s.kv.Txn(ctx(), t); return err })
	}
	for i := 0; i < *ops; i++ {
		switch n := w.rng.Intn(100); {
		case n < 4:
			w.grant()
		case n < 5 && len(w.leases) > 3:
			w.revoke()
		case n < 7 && *compact:
			w.compaction()
		case n < 40:
			w.txn(*keys, 1)
		default:
			w.txn(*keys, 1+w.rng.Intn(20))
		}
		if *big > 0 && i%(*ops / *big + 1) == 0 {
			w.big()
		}
	}
}

// --- state ---

func (s *server) hash(rev int64) string {
	h, err := s.mt.HashKV(ctx(), &pb.HashKVRequest{Revision: rev})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d compact %d revision %d", h.Hash, h.CompactRevision, h.HashRevision)
}

// The last compaction, 1 at the least. What etcd says of it and of revisions below depends on what it
// has remembered since it was started.
func (s *server) compacted() int64 {
	h, err := s.mt.HashKV(ctx(), &pb.HashKVRequest{})
	must(err)
	return max(h.CompactRevision, 1)
}

func state(args []string) {
	f := flag.NewFlagSet("state", flag.ExitOnError)
	prefix := f.String("prefix", "\x00", "from this key on")
	must(f.Parse(args))
	s := connect(f.Arg(0))
	all, err := s.kv.Range(ctx(), &pb.RangeRequest{Key: []byte(*prefix), RangeEnd: []byte{0}})
	must(err)
	sum := sha256.New()
	for _, kv := range all.Kvs {
		fmt.Fprintf(sum, "%x %x %d %d %d %d\n", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
	}
	rev := all.Header.Revision
	fmt.Printf("revision %d\nkeys %d %x\n", rev, len(all.Kvs), sum.Sum(nil))
	leases, err := s.lease.LeaseLeases(ctx(), &pb.LeaseLeasesRequest{})
	must(err)
	ids := []int64{}
	for _, l := range leases.Leases {
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	for _, id := range ids {
		l, err := s.lease.LeaseTimeToLive(ctx(), &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		must(err)
		keys := []string{}
		for _, k := range l.Keys {
			keys = append(keys, string(k))
		}
		sort.Strings(keys)
		fmt.Printf("lease %d granted %d left %v keys %q\n", id, l.GrantedTTL, l.TTL > 0, keys)
	}
	fmt.Printf("hash %s\n", s.hash(0))
	rng := rand.New(rand.NewSource(rev))
	compacted := s.compacted()
	for i := 0; i < 12; i++ {
		at := min(rev, compacted+1+rng.Int63n(max(rev-compacted, 1)))
		fmt.Printf("hash at %d: %s\n", at, s.hash(at))
	}
	for _, at := range []int64{rev, rev + 1} {
		fmt.Printf("hash at %d: %s\n", at, s.hash(at))
	}
}

// The hash of everything that a member keeps, for members of one cluster.
func hash(args []string) {
	h, err := connect(args[0]).mt.Hash(ctx(), &pb.HashRequest{})
	must(err)
	fmt.Println(h.Hash)
}

// --- hashes ---

func hashes(args []string) {
	f := flag.NewFlagSet("hashes", flag.ExitOnError)
	points := f.Int("points", 1000, "random revisions")
	seed := f.Int64("seed", 1, "")
	must(f.Parse(args))
	var tally harness.Tally
	servers := []*server{}
	for _, e := range f.Args() {
		servers = append(servers, connect(e))
	}
	r, err := servers[0].kv.Range(ctx(), &pb.RangeRequest{Key: []byte("x")})
	must(err)
	rng := rand.New(rand.NewSource(*seed))
	compacted := servers[0].compacted()
	for i := 0; i < *points; i++ {
		at := compacted + 1 + rng.Int63n(r.Header.Revision+2-compacted)
		want := servers[0].hash(at)
		for _, s := range servers[1:] {
			if got := s.hash(at); got != want {
				tally.Fail("hash at %d: want %s, got %s", at, want, got)
			} else {
				tally.Pass()
			}
		}
	}
	tally.Finish()
}

// --- load ---

func load(args []string) {
	f := flag.NewFlagSet("load", flag.ExitOnError)
	clients := f.Int("clients", 4, "each puts keys of its own, one after the other")
	must(f.Parse(args))
	s := connect(f.Arg(0))
	var mutex sync.Mutex
	var took []time.Duration
	next := make([]int, *clients)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for c := 0; c < *clients; c++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("load/%d/%08d", c, next[c])
				began := time.Now()
				_, err := s.kv.Put(ctx(), &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
				must(err)
				mutex.Lock()
				took = append(took, time.Since(began))
				next[c]++
				mutex.Unlock()
			}
		}()
	}
	// Each line asks for what was acknowledged so far, and for the latencies since the last one.
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		mutex.Lock()
		slices.Sort(took)
		p := func(q float64) float64 {
			if len(took) == 0 {
				return 0
			}
			return float64(took[int(q*float64(len(took)-1))]) / 1e6
		}
		fmt.Printf("%d %.2f %.2f %.2f", len(took), p(0.5), p(0.99), p(1))
		for _, n := range next {
			fmt.Printf(" %d", n)
		}
		fmt.Println()
		took = nil
		mutex.Unlock()
	}
	close(stop)
	wait.Wait()
}

func main() {
	commands := map[string]func([]string){"history": history, "state": state, "hashes": hashes, "hash": hash,
		"load": load}
	if len(os.Args) < 3 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: snapshot history|state|hashes|load [FLAGS] ENDPOINT...")
		os.Exit(2)
	}
	commands[os.Args[1]](os.Args[2:])
}
