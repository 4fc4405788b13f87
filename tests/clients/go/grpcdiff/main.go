// Grpcdiff sends the same random requests to two servers, one after the other, and compares every
// answer: messages field by field, error codes and texts, watch events.
//
// Of a RangeStream each message is compared. After the random requests come long ones (streams.go).
//
// Left out of the comparison: cluster and member ids, the raft term, and what a clock decides (the rest
// of a lease's time). Leases are granted with ids of ours. Both clusters are new, so that revisions
// are equal from the first write on; when they part, the run ends, for nothing is comparable any more.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"trivet.test/clients/internal/harness"
)

const callTimeout = 20 * time.Second

// A side is one of the two servers.
type side struct {
	name  string
	conn  *grpc.ClientConn
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
}

func connect(name, endpoint string) *side {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return &side{name, conn, pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewWatchClient(conn)}
}

// A call makes the same request of either side.
type call struct {
	text string
	do   func(ctx context.Context, s *side) (proto.Message, error)
}

func main() {
	want := flag.String("want", "", "endpoint of the server that is right")
	got := flag.String("got", "", "endpoint of the server that is tested")
	requests := flag.Int("requests", 5000, "how many")
	seed := flag.Int64("seed", 1, "of the requests")
	flag.Parse()
	right, tested := connect("want", *want), connect("got", *got)
	g := &generator{rng: rand.New(rand.NewSource(*seed)), revision: 1}
	var tally harness.Tally
	fmt.Printf("seed %d, %d requests\n", *seed, *requests)
	for i := 0; i < *requests; i++ {
		c := g.next()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		a, errA := c.do(ctx, right)
		b, errB := c.do(ctx, tested)
		cancel()
		before := tally.Failed()
		compare(&tally, i, c, a, b, errA, errB)
		revisionA, revisionB := revisionOf(a), revisionOf(b)
		if revisionA > g.revision {
			g.revision = revisionA
		}
		if tally.Failed() > before && revisionA != revisionB && errA == nil {
			fmt.Printf("the revisions part at request %d: nothing is comparable from here on\n", i)
			break
		}
		if tally.Failed() > 40 {
			break
		}
	}
	fmt.Printf("%d revisions\n", g.revision)
	if tally.Failed() == 0 {
		compareLongStreams(&tally, right, tested)
	}
	tally.Finish()
}

func compare(tally *harness.Tally, i int, c call, a, b proto.Message, errA, errB error) {
	if errA != nil || errB != nil {
		sa, sb := status.Convert(errA), status.Convert(errB)
		if sa.Code() != sb.Code() || sa.Message() != sb.Message() {
			tally.Fail("request %d: %s\n  want %s %q\n  got  %s %q", i, c.text, sa.Code(), sa.Message(),
				sb.Code(), sb.Message())
			return
		}
		tally.Pass()
		return
	}
	normalize(a)
	normalize(b)
	if !proto.Equal(a, b) {
		tally.Fail("request %d: %s\n  want %s\n  got  %s", i, c.text, brief(a), brief(b))
		return
	}
	tally.Pass()
}

func brief(m proto.Message) string {
	text := prototext.MarshalOptions{}.Format(m)
	if len(text) > 3000 {
		text = text[:3000] + " ..."
	}
	return text
}

type headed interface{ GetHeader() *pb.ResponseHeader }

func revisionOf(m proto.Message) int64 {
	if h, ok := m.(headed); ok && h != nil && h.GetHeader() != nil {
		return h.GetHeader().Revision
	}
	return 0
}

func normalizeHeader(h *pb.ResponseHeader) {
	if h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}

// normalize takes out what may differ.
func normalize(m proto.Message) {
	if h, ok := m.(headed); ok {
		normalizeHeader(h.GetHeader())
	}
	switch r := m.(type) {
	case *pb.TxnResponse:
		normalizeOps(r.Responses)
	case *pb.LeaseTimeToLiveResponse:
		if r.TTL > 0 && r.TTL <= r.GrantedTTL {
			r.TTL = r.GrantedTTL
		}
		sort.Slice(r.Keys, func(i, j int) bool { return string(r.Keys[i]) < string(r.Keys[j]) })
	case *pb.LeaseLeasesResponse:
		sort.Slice(r.Leases, func(i, j int) bool { return r.Leases[i].ID < r.Leases[j].ID })
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
