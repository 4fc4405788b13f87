// Contest compares the Lock, Election and Maintenance services of two servers: the same scenes are
// played with each, and what happened, line by line, must be the same.
//
// Left out: ids of clusters and members, the term, and leases that a server chose.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"trivet.test/clients/internal/harness"
)

// A side is one of the two servers, and what was seen there in the scene under way.
type side struct {
	conn  *grpc.ClientConn
	kv    pb.KVClient
	lease pb.LeaseClient
	mt    pb.MaintenanceClient
	mutex sync.Mutex
	seen  map[string][]string // by who saw it: what happens at the same time has no order
}

func connect(endpoint string) *side {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return &side{conn: conn, kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn),
		mt: pb.NewMaintenanceClient(conn)}
}

func (s *side) sayAs(who, format string, args ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.seen[who] = append(s.seen[who], fmt.Sprintf(format, args...))
}

func (s *side) say(format string, args ...any) { s.sayAs("", format, args...) }

// Go's protobuf library writes some blanks in another way from build to build.
func (s *side) sayErrorAs(who, what string, err error) {
	st := status.Convert(err)
	s.sayAs(who, "%s: %s %q", what, st.Code(), strings.ReplaceAll(st.Message(), "\u00a0", " "))
}

func (s *side) sayError(what string, err error) { s.sayErrorAs("", what, err) }

func (s *side) transcript() string {
	names, text := []string{}, ""
	for name := range s.seen {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, line := range s.seen[name] {
			text += "\n    " + strings.TrimSpace(name+" "+line)
		}
	}
	return text
}

func ctx() context.Context {
	c, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	time.AfterFunc(31*time.Second, cancel)
	return c
}

func (s *side) grant(id, ttl int64) {
	if _, err := s.lease.LeaseGrant(ctx(), &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		s.sayError("grant", err)
	}
}

// The keys below the prefix, oldest first.
func (s *side) keys(prefix string) {
	end := []byte(prefix)
	end[len(end)-1]++
	r, err := s.kv.Range(ctx(), &pb.RangeRequest{Key: []byte(prefix), RangeEnd: end,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND})
	if err != nil {
		s.sayError("range", err)
		return
	}
	text := []string{}
	for _, kv := range r.Kvs {
		text = append(text, fmt.Sprintf("%s=%q@%d/%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision))
	}
	s.say("keys %s rev=%d", strings.Join(text, " "), r.Header.Revision)
}

// True when it came to pass within the time.
func eventually(timeout time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(timeout)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

func (s *side) has(key string) bool {
	r, err := s.kv.Range(ctx(), &pb.RangeRequest{Key: []byte(key)})
	return err == nil && len(r.Kvs) > 0
}

type scene struct {
	name string
	play func(s *side)
}

func main() {
	want := flag.String("want", "", "endpoint of the server that is right")
	got := flag.String("got", "", "endpoint of the server that is tested")
	only := flag.String("only", "", "the scene with this name alone")
	flag.Parse()
	right, tested := connect(*want), connect(*got)
	var tally harness.Tally
	for _, sc := range append(append(lockScenes(), electionScenes()...), maintenanceScenes()...) {
		if *only != "" && *only != sc.name {
			continue
		}
		right.seen, tested.seen = map[string][]string{}, map[string][]string{}
		var wait sync.WaitGroup
		wait.Add(2)
		go func() { defer wait.Done(); sc.play(right) }()
		go func() { defer wait.Done(); sc.play(tested) }()
		wait.Wait()
		a, b := right.transcript(), tested.transcript()
		if a == "" || a != b {
			tally.Fail("%s\n  want%s\n  got%s", sc.name, a, b)
		} else {
			tally.Pass()
		}
	}
	tally.Finish()
}
