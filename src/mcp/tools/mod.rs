//! One file for each tool, and what they share.

mod get_status;
mod input;
mod list_clusters;
mod promote;
mod result;
mod rollback;
mod start_canary;
