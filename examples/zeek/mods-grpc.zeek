##! Hands Zeek's logs over to mods-grpc.
##!
##! Copy it to site/mods-grpc.zeek and add `@load ./mods-grpc` to site/local.zeek. Then, on the same machine:
##!
##!     mods-grpc watch --zeek /opt/zeek/logs/current --server unix:/run/mods.sock --model campus --alerts zeek:/opt/zeek/logs/mods/notice.log
##!
##! Nothing here is needed by mods-grpc itself, which reads Zeek's default logs as they are: it makes the logs easier to
##! follow, and gives the alerts' notice types a name inside Zeek.

module MODS;

export {
	redef enum Notice::Type += {
		## A series behaves unlike itself: the start of an episode.
		Traffic_Anomaly,
		## The episode has become ten times less likely.
		Traffic_Anomaly_Grew,
		## The episode is over.
		Traffic_Anomaly_Ended,
	};
}

# One line an event, types and all. TSV is smaller and faster to read; JSON (`T`) works as well.
redef LogAscii::use_json = F;

# Rotated files are found again by their content, so any interval will do. Keep them for as long as a watch may be down.
redef Log::default_rotation_interval = 1 hr;

# What is ours. With --local the networks given there decide instead, without it these flags do.
# redef Site::local_nets += { 192.0.2.0/24 };
