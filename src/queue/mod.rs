//! Plans waiting on Redis for worker hosts: BullMQ's own queue, so that its producers, workers and dashboards see and feed
//! the same one.
//!
//! The database stays the truth. What lies here may be lost with Redis: a run that has begun goes on by itself, and a job
//! that is taken twice is one and the same run, whose ledger says how far it is. Hence:
//!
//! - a job's run has an id that follows from the job ([`job::run_id`]): who takes the job again resumes the run;
//! - a job is given back without using up an attempt where nothing was tried: the worker ends, somebody else is at it;
//! - no lock of Redis protects a row. It only keeps two workers from doing the same work in vain.
//!
//! | file | what is in it |
//! | --- | --- |
//! | [`job`] | what a job holds, and which run it is |
//! | [`ticket`] | a plan on its way into the line: checked, without secrets |
//! | [`line`](mod@line) | the queue on one Redis: opening it, adding to it |
//! | [`view`] | what is shown of it |
//! | [`order`] | what an operator wants of it |
//! | [`worker`] | takes jobs, and has them driven |
//! | [`hold`] | a worker's hold on a job |
//! | [`report`] | a job's progress and log lines on their way to Redis |
//! | [`verdict`] | what becomes of a job that was taken |
//! | [`backoff`] | how long a job rests before it is tried again |

pub mod backoff;
pub mod hold;
pub mod job;
pub mod line;
pub mod order;
pub mod report;
pub mod ticket;
pub mod verdict;
pub mod view;
pub mod worker;

pub use job::JobData;
pub use line::Line;
pub use ticket::Ticket;
pub use verdict::Verdict;
