//! The keys of the governor's signals.

use super::{Shape, Table, key};

pub(in crate::plan) static REPLAY_LAG: Table = Table {
    path: "limits.replay_lag",
    keys: &[key("slow", Shape::Text, "slow = \"5s\""), key("stop", Shape::Text, "stop = \"60s\"")],
};

pub(in crate::plan) static WAL: Table = Table {
    path: "limits.wal",
    keys: &[key("slow", Shape::Text, "slow = \"16GiB\""), key("stop", Shape::Text, "stop = \"64GiB\"")],
};

pub(in crate::plan) static ARCHIVE: Table = Table {
    path: "limits.archive",
    keys: &[key("slow", Shape::Whole, "slow = 256"), key("stop", Shape::Whole, "stop = 2048")],
};

pub(in crate::plan) static SESSIONS: Table = Table {
    path: "limits.sessions",
    keys: &[key("slow", Shape::Whole, "slow = 50"), key("stop", Shape::Whole, "stop = 200")],
};

pub(in crate::plan) static SNAPSHOT_AGE: Table = Table {
    path: "limits.snapshot_age",
    keys: &[key("slow", Shape::Text, "slow = \"10m\""), key("stop", Shape::Text, "stop = \"1h\"")],
};

pub(in crate::plan) static FREE_DISK: Table = Table {
    path: "limits.free_disk",
    keys: &[key("slow", Shape::Text, "slow = \"10%\""), key("stop", Shape::Text, "stop = \"5%\"")],
};

pub(in crate::plan) static HOST_CPU: Table = Table {
    path: "limits.host_cpu",
    keys: &[key("slow", Shape::Text, "slow = \"80%\""), key("stop", Shape::Text, "stop = \"95%\"")],
};

pub(in crate::plan) static FREE_MEMORY: Table = Table {
    path: "limits.free_memory",
    keys: &[key("slow", Shape::Text, "slow = \"10%\""), key("stop", Shape::Text, "stop = \"5%\"")],
};

pub(in crate::plan) static PROBE: Table = Table {
    path: "limits.probe",
    keys: &[
        key("name", Shape::Text, "name = \"queue\""),
        key("sql", Shape::Text, "sql = \"SELECT count(*) FROM queue\""),
        key("slow", Shape::Number, "slow = 1000"),
        key("stop", Shape::Number, "stop = 10000"),
    ],
};
