//! Sources as they come, change and go.
