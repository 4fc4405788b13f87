// Rangestream reads long RangeStreams of two servers: the same keys in messages of the same sizes, as far
// as etcd cuts them by number; and at the second one also what leaves early or reads slowly.
package main

import (
	"flag"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"trivet.test/clients/internal/harness"
)

// A side is one of the two servers.
type side struct {
	name string
	kv   pb.KVClient
}

func connect(name, endpoint string) *side {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return &side{name, pb.NewKVClient(conn)}
}

func main() {
	want := flag.String("want", "", "endpoint of the server that is right")
	got := flag.String("got", "", "endpoint of the server that is tested")
	flag.Parse()
	var tally harness.Tally
	compareLongStreams(&tally, connect("want", *want), connect("got", *got))
	tally.Finish()
}

func brief(m proto.Message) string {
	return prototext.MarshalOptions{}.Format(m)
}

// normalize takes out what may differ.
func normalize(r *pb.RangeResponse) {
	if h := r.Header; h != nil {
		h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	}
}
