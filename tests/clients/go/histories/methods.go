package main

import (
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// A method of the API. One that streams is called with one request, and its messages are put together.
type method struct {
	request, answer func() proto.Message
	clientStreams   bool
	serverStreams   bool
	blocks          bool // may: its call ends after a while, and what it left behind is waited for
}

func unary[Q, A any, PQ interface {
	*Q
	proto.Message
}, PA interface {
	*A
	proto.Message
}]() method {
	return method{
		request: func() proto.Message { return PQ(new(Q)) },
		answer:  func() proto.Message { return PA(new(A)) },
	}
}

func (m method) streams(client bool) method {
	m.clientStreams, m.serverStreams = client, true
	return m
}

func (m method) blocking() method {
	m.blocks = true
	return m
}

var methods = map[string]method{
	"etcdserverpb.KV/Range":       unary[pb.RangeRequest, pb.RangeResponse](),
	"etcdserverpb.KV/RangeStream": unary[pb.RangeRequest, pb.RangeStreamResponse]().streams(false),
	"etcdserverpb.KV/Put":         unary[pb.PutRequest, pb.PutResponse](),
	"etcdserverpb.KV/DeleteRange": unary[pb.DeleteRangeRequest, pb.DeleteRangeResponse](),
	"etcdserverpb.KV/Txn":         unary[pb.TxnRequest, pb.TxnResponse](),
	"etcdserverpb.KV/Compact":     unary[pb.CompactionRequest, pb.CompactionResponse](),

	"etcdserverpb.Watch/Watch": unary[pb.WatchRequest, pb.WatchResponse]().streams(true),

	"etcdserverpb.Lease/LeaseGrant":      unary[pb.LeaseGrantRequest, pb.LeaseGrantResponse](),
	"etcdserverpb.Lease/LeaseRevoke":     unary[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse](),
	"etcdserverpb.Lease/LeaseKeepAlive":  unary[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]().streams(true),
	"etcdserverpb.Lease/LeaseTimeToLive": unary[pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse](),
	"etcdserverpb.Lease/LeaseLeases":     unary[pb.LeaseLeasesRequest, pb.LeaseLeasesResponse](),

	"etcdserverpb.Cluster/MemberAdd":     unary[pb.MemberAddRequest, pb.MemberAddResponse](),
	"etcdserverpb.Cluster/MemberRemove":  unary[pb.MemberRemoveRequest, pb.MemberRemoveResponse](),
	"etcdserverpb.Cluster/MemberUpdate":  unary[pb.MemberUpdateRequest, pb.MemberUpdateResponse](),
	"etcdserverpb.Cluster/MemberList":    unary[pb.MemberListRequest, pb.MemberListResponse](),
	"etcdserverpb.Cluster/MemberPromote": unary[pb.MemberPromoteRequest, pb.MemberPromoteResponse](),

	"etcdserverpb.Maintenance/Alarm":      unary[pb.AlarmRequest, pb.AlarmResponse](),
	"etcdserverpb.Maintenance/Status":     unary[pb.StatusRequest, pb.StatusResponse](),
	"etcdserverpb.Maintenance/Defragment": unary[pb.DefragmentRequest, pb.DefragmentResponse](),
	"etcdserverpb.Maintenance/Hash":       unary[pb.HashRequest, pb.HashResponse](),
	"etcdserverpb.Maintenance/HashKV":     unary[pb.HashKVRequest, pb.HashKVResponse](),
	"etcdserverpb.Maintenance/Snapshot":   unary[pb.SnapshotRequest, pb.SnapshotResponse]().streams(false),
	"etcdserverpb.Maintenance/MoveLeader": unary[pb.MoveLeaderRequest, pb.MoveLeaderResponse](),
	"etcdserverpb.Maintenance/Downgrade":  unary[pb.DowngradeRequest, pb.DowngradeResponse](),

	"etcdserverpb.Auth/AuthEnable":           unary[pb.AuthEnableRequest, pb.AuthEnableResponse](),
	"etcdserverpb.Auth/AuthDisable":          unary[pb.AuthDisableRequest, pb.AuthDisableResponse](),
	"etcdserverpb.Auth/AuthStatus":           unary[pb.AuthStatusRequest, pb.AuthStatusResponse](),
	"etcdserverpb.Auth/Authenticate":         unary[pb.AuthenticateRequest, pb.AuthenticateResponse](),
	"etcdserverpb.Auth/UserAdd":              unary[pb.AuthUserAddRequest, pb.AuthUserAddResponse](),
	"etcdserverpb.Auth/UserGet":              unary[pb.AuthUserGetRequest, pb.AuthUserGetResponse](),
	"etcdserverpb.Auth/UserList":             unary[pb.AuthUserListRequest, pb.AuthUserListResponse](),
	"etcdserverpb.Auth/UserDelete":           unary[pb.AuthUserDeleteRequest, pb.AuthUserDeleteResponse](),
	"etcdserverpb.Auth/UserChangePassword":   unary[pb.AuthUserChangePasswordRequest, pb.AuthUserChangePasswordResponse](),
	"etcdserverpb.Auth/UserGrantRole":        unary[pb.AuthUserGrantRoleRequest, pb.AuthUserGrantRoleResponse](),
	"etcdserverpb.Auth/UserRevokeRole":       unary[pb.AuthUserRevokeRoleRequest, pb.AuthUserRevokeRoleResponse](),
	"etcdserverpb.Auth/RoleAdd":              unary[pb.AuthRoleAddRequest, pb.AuthRoleAddResponse](),
	"etcdserverpb.Auth/RoleGet":              unary[pb.AuthRoleGetRequest, pb.AuthRoleGetResponse](),
	"etcdserverpb.Auth/RoleList":             unary[pb.AuthRoleListRequest, pb.AuthRoleListResponse](),
	"etcdserverpb.Auth/RoleDelete":           unary[pb.AuthRoleDeleteRequest, pb.AuthRoleDeleteResponse](),
	"etcdserverpb.Auth/RoleGrantPermission":  unary[pb.AuthRoleGrantPermissionRequest, pb.AuthRoleGrantPermissionResponse](),
	"etcdserverpb.Auth/RoleRevokePermission": unary[pb.AuthRoleRevokePermissionRequest, pb.AuthRoleRevokePermissionResponse](),

	"v3lockpb.Lock/Lock":   unary[v3lockpb.LockRequest, v3lockpb.LockResponse]().blocking(),
	"v3lockpb.Lock/Unlock": unary[v3lockpb.UnlockRequest, v3lockpb.UnlockResponse](),

	"v3electionpb.Election/Campaign": unary[v3electionpb.CampaignRequest, v3electionpb.CampaignResponse]().blocking(),
	"v3electionpb.Election/Proclaim": unary[v3electionpb.ProclaimRequest, v3electionpb.ProclaimResponse](),
	"v3electionpb.Election/Leader":   unary[v3electionpb.LeaderRequest, v3electionpb.LeaderResponse](),
	"v3electionpb.Election/Resign":   unary[v3electionpb.ResignRequest, v3electionpb.ResignResponse](),
}
