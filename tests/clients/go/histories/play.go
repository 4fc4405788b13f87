package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// A player plays a history to a new server of either kind.
type player struct {
	etcd, trivetd string
	dir           string
	etcdFlags     []string
	trivetFlags   []string

	mu     sync.Mutex
	played int
	times  map[string]time.Duration // by kind of step
}

// A difference ends a history: what follows would be compared between stores that are not equal.
type difference struct {
	at        int
	want, got string
}

func (p *player) play(steps []step) (*difference, int, error) {
	began := time.Now()
	p.mu.Lock()
	p.played++
	dir := filepath.Join(p.dir, fmt.Sprint(p.played))
	p.mu.Unlock()
	keep := false
	defer func() {
		if !keep {
			os.RemoveAll(dir)
		}
	}()
	var sides [2]*side
	var failed [2]error
	both(func(i int) {
		binary, flags, name := p.etcd, p.etcdFlags, "etcd"
		if i == 1 {
			binary, flags, name = p.trivetd, p.trivetFlags, "trivet"
		}
		s, err := newServer(binary, filepath.Join(dir, name), flags)
		if err != nil {
			failed[i] = err
			return
		}
		sides[i], failed[i] = newSide(s)
	})
	for i, err := range failed {
		if err != nil {
			keep = true // the log
			return nil, 0, fmt.Errorf("side %d: %w", i, err)
		}
	}
	p.took("start", began)
	g := &game{sides: sides, revision: 1, mixed: map[int64]bool{}}
	var found *difference
	compared := 0
	for i := range steps {
		began := time.Now()
		want, got, err := g.do(&steps[i])
		p.took(steps[i].Kind+" "+steps[i].Method, began)
		if err != nil {
			keep = true
			return nil, compared, fmt.Errorf("step %d (%s): %w", i, steps[i].String(), err)
		}
		compared++
		if want != got && sides[0].server.hasEnded() {
			// COMPAT better, Txn: a transaction that deletes a key and then puts it with ignore_value or ignore_lease ends etcd's
			// COMPAT   process
			break // etcd panics at some transactions: nothing to compare with
		}
		if want != got && !(steps[i].Kind == stepSync && lacksPrevKv(want, got)) {
			found = &difference{i, want, got}
			break
		}
	}
	for i := range sides {
		sides[i].close()
	}
	both(func(i int) { failed[i] = sides[i].server.stop(i == 0) })
	return found, compared, failed[1]
}

// lacksPrevKv tells whether all that etcd did not say are previous values.
// COMPAT better, Watch: prev_kv comes with every event; etcd leaves it out of those that a watch of the past sends before
// COMPAT   etcd has noted what the client asked for
func lacksPrevKv(want, got string) bool {
	wanted, gotten := strings.Split(want, "\n"), strings.Split(got, "\n")
	if len(wanted) != len(gotten) {
		return false
	}
	for i := range wanted {
		more, starts := strings.CutPrefix(gotten[i], wanted[i])
		if !starts || more != "" && !strings.HasPrefix(strings.TrimLeft(more, " \u00a0"), "prev_kv:{") {
			return false
		}
	}
	return true
}

func (p *player) took(what string, since time.Time) {
	p.mu.Lock()
	p.times[what] += time.Since(since)
	p.mu.Unlock()
}

// printTimes says what took more than a hundredth of the time.
func (p *player) printTimes() {
	var all time.Duration
	for _, t := range p.times {
		all += t
	}
	for name, t := range p.times {
		if t > all/100 {
			fmt.Printf("  %5.1f %% %s\n", 100*t.Seconds()/all.Seconds(), name)
		}
	}
}

func both(do func(i int)) {
	var wait sync.WaitGroup
	wait.Add(1)
	go func() {
		do(0)
		wait.Done()
	}()
	do(1)
	wait.Wait()
}

const snapshotMethod = "etcdserverpb.Maintenance/Snapshot"

type game struct {
	sides               [2]*side
	revision, compacted int64
	mixed               map[int64]bool // revisions that may delete a key and put it again
}

func (g *game) do(s *step) (want, got string, err error) {
	var said [2]string
	var failed [2]error
	var answers [2][]proto.Message
	var givenUp [2]bool
	if s.Kind == stepSync {
		g.passRevisions()
	}
	var request proto.Message
	if s.Kind == stepCall || s.Kind == stepLogin || s.Kind == stepWatch {
		request = s.request(g.revision, g.compacted)
		if c, ok := request.(*pb.CompactionRequest); ok {
			g.avoid(c)
		}
	}
	if h, ok := request.(*pb.HashKVRequest); ok && h.Revision == g.compacted {
		h.Revision = 0 // the same, but for what etcd may have kept of it: see maintenanceStep()
	}
	both(func(i int) {
		d := g.sides[i]
		switch s.Kind {
		case stepCall, stepRaw, stepLogin:
			var err error
			switch s.Kind {
			case stepCall:
				answers[i], err = d.call(s, request)
			case stepRaw:
				answers[i], err = d.callRaw(s)
			default:
				answers[i], err = d.login(s, request)
			}
			if r, ok := request.(*pb.RangeRequest); ok && r.Limit < 0 {
				// COMPAT differs, RangeStream: a negative limit: etcd then makes one message of everything, here they are cut
				// COMPAT   as always, because memory has a bound
				answers[i] = joined(answers[i]) // to etcd no limit of a message either
			}
			if s.Method == snapshotMethod && len(answers[i]) > 1 {
				answers[i] = answers[i][:1] // as many as the file is large
			}
			if code := status.Code(err); methods[s.Method].blocks && (code == codes.DeadlineExceeded || code == codes.Canceled) {
				err = status.Error(codes.DeadlineExceeded, "") // ours, or the server's, or its word for our giving up
				givenUp[i] = true
			}
			said[i] = sayAll(answers[i], err)
		case stepWatch:
			failed[i] = d.watch(s, request, g.revision)
		case stepSync:
			said[i] = d.sync(g.revision)
		case stepClose:
			d.closeStream(s.Stream)
		case stepRestart:
			failed[i] = d.restart(s.Hard)
		}
	})
	for i := range failed {
		if failed[i] != nil {
			return "", "", fmt.Errorf("side %d: %w", i, failed[i])
		}
	}
	if givenUp[0] && givenUp[1] {
		g.settle()
	}
	g.learn(s, request, answers[0])
	return said[0], said[1], nil
}

// settle waits until both servers have done what they do after a call was given up: a Lock takes its key away.
func (g *game) settle() {
	time.Sleep(settleTime)
	for until := time.Now().Add(settleTimeout); time.Now().Before(until); time.Sleep(settleTime) {
		var revisions [2]int64
		both(func(i int) { revisions[i] = g.sides[i].revision() })
		if revisions[0] == revisions[1] {
			return
		}
	}
}

// avoid leaves out revisions at which etcd's compaction is not what it should be.
func (g *game) avoid(c *pb.CompactionRequest) {
	if c.Revision == 0 {
		c.Revision = 1 // after a compaction at 0, HashKV at 0 is to etcd the hash that it kept of it
	}
	// COMPAT better, Compact: a key that a transaction deletes and puts (which etcd lets pass when the deletion is from a
	// COMPAT   key on) is still there after a compaction at that revision; etcd's loses the value, and its process ends
	// COMPAT   when somebody reads the key
	for g.mixed[c.Revision] {
		c.Revision++
	}
}

// passRevisions makes the revision so high that no watch waits for a future one.
func (g *game) passRevisions() {
	for n := 0; n < 3; n++ {
		s := &step{Kind: stepCall, Method: "etcdserverpb.KV/Put", Identity: identityRoot}
		r := &pb.PutRequest{Key: []byte("zz/sync")}
		var answers [2][]proto.Message
		both(func(i int) { answers[i], _ = g.sides[i].call(s, r) })
		g.learn(s, r, answers[0])
	}
}

func (g *game) learn(s *step, request proto.Message, answers []proto.Message) {
	for _, a := range answers {
		if revision := revisionOf(a); revision > g.revision {
			g.revision = revision
		}
	}
	if c, ok := request.(*pb.CompactionRequest); ok && len(answers) > 0 && s.Kind == stepCall {
		g.compacted = c.Revision
	}
	if t, ok := request.(*pb.TxnRequest); ok && len(answers) > 0 && deletesFromKey(t) {
		g.mixed[revisionOf(answers[0])] = true
	}
}

func deletesFromKey(t *pb.TxnRequest) bool {
	for _, op := range append(append([]*pb.RequestOp{}, t.Success...), t.Failure...) {
		if d := op.GetRequestDeleteRange(); d != nil && string(d.RangeEnd) == "\x00" {
			return true
		}
		if nested := op.GetRequestTxn(); nested != nil && deletesFromKey(nested) {
			return true
		}
	}
	return false
}

const ownLeaseMax = 1000000 // servers choose larger ids

// --- answers, as far as they are to be equal ---

func sayAll(answers []proto.Message, err error) string {
	var all strings.Builder
	for _, a := range answers {
		normalize(a)
		all.WriteString(brief(a))
		all.WriteByte('\n')
	}
	if err != nil {
		s := status.Convert(err)
		// Go's protobuf uses another space in some of its programs.
		fmt.Fprintf(&all, "%s %q", s.Code(), strings.ReplaceAll(s.Message(), "\u00a0", " "))
	}
	return all.String()
}

// joined makes one message of those of a RangeStream.
func joined(answers []proto.Message) []proto.Message {
	if len(answers) < 2 {
		return answers
	}
	sum := proto.Clone(answers[len(answers)-1]).(*pb.RangeStreamResponse)
	sum.RangeResponse.Kvs = nil
	for _, a := range answers {
		sum.RangeResponse.Kvs = append(sum.RangeResponse.Kvs, a.(*pb.RangeStreamResponse).RangeResponse.Kvs...)
	}
	return []proto.Message{sum}
}

func revisionOf(m proto.Message) int64 {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok && h.GetHeader() != nil {
		return h.GetHeader().Revision
	}
	return 0
}

// normalize takes out what may differ: ids, terms, times, sizes, tokens, and the order of what has none.
func normalize(m proto.Message) {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		normalizeHeader(h.GetHeader())
	}
	switch r := m.(type) {
	case *pb.RangeStreamResponse:
		normalizeHeader(r.GetRangeResponse().GetHeader())
	case *pb.TxnResponse:
		normalizeOps(r.Responses)
	case *pb.LeaseTimeToLiveResponse:
		if r.TTL > 0 && r.TTL <= r.GrantedTTL {
			r.TTL = r.GrantedTTL
		}
		sort.Slice(r.Keys, func(i, j int) bool { return string(r.Keys[i]) < string(r.Keys[j]) })
	case *pb.LeaseLeasesResponse:
		kept := r.Leases[:0]
		for _, l := range r.Leases {
			if l.ID < endingLeaseMin {
				kept = append(kept, l)
			}
		}
		r.Leases = kept
		sort.Slice(r.Leases, func(i, j int) bool { return r.Leases[i].ID < r.Leases[j].ID })
	case *pb.LeaseGrantResponse:
		r.ID = min(r.ID, ownLeaseMax)
	case *pb.StatusResponse:
		r.DbSize, r.DbSizeInUse, r.RaftIndex, r.RaftAppliedIndex, r.RaftTerm = 0, 0, 0, 0, 0
		r.Leader = min(r.Leader, 1)
		r.StorageVersion = storageVersion(r.StorageVersion)
		for i := range r.Errors { // how many blanks there are depends on how etcd was built
			r.Errors[i] = strings.ReplaceAll(r.Errors[i], "  ", " ")
		}
	case *pb.HashResponse:
		r.Hash = 0
	case *pb.SnapshotResponse:
		r.RemainingBytes, r.Blob = 0, nil
		r.Version = storageVersion(r.Version)
	case *pb.AuthenticateResponse:
		if r.Token != "" {
			r.Token = "token"
		}
	case *pb.MemberListResponse:
		for _, member := range r.Members {
			member.ID, member.PeerURLs, member.ClientURLs = 0, nil, nil
		}
	case *v3lockpb.LockResponse:
		normalizeHeader(r.Header)
	case *v3lockpb.UnlockResponse:
		normalizeHeader(r.Header)
	case *v3electionpb.CampaignResponse:
		normalizeHeader(r.Header)
	case *v3electionpb.ProclaimResponse:
		normalizeHeader(r.Header)
	case *v3electionpb.LeaderResponse:
		normalizeHeader(r.Header)
	case *v3electionpb.ResignResponse:
		normalizeHeader(r.Header)
	}
}

// storageVersion hides that etcd raises it some time after its first start.
func storageVersion(version string) string {
	if version == "" || version == "3.5.0" {
		return "3.7.0"
	}
	return version
}

func normalizeHeader(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}

func normalizeOps(ops []*pb.ResponseOp) {
	for _, op := range ops {
		switch {
		case op.GetResponseRange() != nil:
			normalizeHeader(op.GetResponseRange().Header)
		case op.GetResponsePut() != nil:
			normalizeHeader(op.GetResponsePut().Header)
		case op.GetResponseDeleteRange() != nil:
			normalizeHeader(op.GetResponseDeleteRange().Header)
		case op.GetResponseTxn() != nil:
			normalizeHeader(op.GetResponseTxn().Header)
			normalizeOps(op.GetResponseTxn().Responses)
		}
	}
}
