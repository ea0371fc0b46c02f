##! Settings of Zeek for mods-grpc.
##!
##! Copy it to site/mods-grpc.zeek and add `@load ./mods-grpc` to site/local.zeek. Then, on the same machine:
##!
##!     mods-grpc watch --zeek /opt/zeek/logs/current --server unix:/run/mods.sock --model campus --alerts zeek:/opt/zeek/logs/mods/notice.log
##!
##! It is optional, because mods-grpc reads Zeek's default logs: it sets the log format and rotation, and defines the notice types
##! of the alerts in Zeek.

module MODS;

export {
	redef enum Notice::Type += {
		## An anomaly in a series: the start of an episode.
		Traffic_Anomaly,
		## The episode has become less likely, by a decade of the p-value.
		Traffic_Anomaly_Grew,
		## The episode is over.
		Traffic_Anomaly_Ended,
	};
}

# TSV names the types of its columns, and is smaller and faster to read than JSON (`T`), which works as well.
redef LogAscii::use_json = F;

# Rotated files are recognised by their content, so any interval works. Keep them for as long as a watch may be down.
redef Log::default_rotation_interval = 1 hr;

# Local networks. If mods-grpc runs with --local, it uses those networks instead of Zeek's local_orig and local_resp.
# redef Site::local_nets += { 192.0.2.0/24 };
