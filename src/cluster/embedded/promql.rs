//! The query engine of the embedded clusters: `promql-parser` checks, `tsink` stores and evaluates.
//!
//! `tsink` frees nothing in memory while a store lives. So a store lives for two hours and is then dropped whole; the
//! next one is begun half an hour before that, and both take every scrape until then. The last half hour is always
//! there to be asked for, in one store.

use std::sync::Arc;

use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Expr, VectorMatchCardinality,
    token::{T_SUM, TokenType},
};
use tsink::{
    DataPoint, Label, Row, Storage, StorageBuilder, TimestampPrecision,
    promql::{Engine, PromqlError, PromqlValue},
};

use super::metrics::{Answer, Held, Labels, QueryError, Reading};
use crate::decide::facts::Moment;

/// How long one store is written to and asked.
const LIFE_MS: i64 = 2 * 3_600_000;
/// How long the next store is written to before it is asked: the history that every query can rely on.
const OVERLAP_MS: i64 = 1_800_000;
/// What may nest in a query. Parser, check and engine go one call deeper for each, and a stack that ends takes the whole process with it.
const MOST_NESTING: usize = 200;

/// The scrapes of the last half hour to two hours.
pub(super) struct History {
    /// Begun first: the one that is asked.
    older: Store,
    newer: Option<Store>,
}

struct Store {
    since: Moment,
    samples: usize,
    /// `None` when the store could not be made, which every query then says.
    storage: Option<Arc<dyn Storage>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("held", &self.held())
            .finish()
    }
}

impl History {
    pub(super) fn new(epoch: Moment) -> Self {
        Self {
            older: Store::new(epoch),
            newer: None,
        }
    }

    pub(super) fn write(&mut self, at: Moment, readings: &[Reading]) {
        if at.since(self.older.since) >= LIFE_MS {
            self.older = self.newer.take().unwrap_or_else(|| Store::new(at));
        }
        if self.newer.is_none() && at.since(self.older.since) >= LIFE_MS - OVERLAP_MS {
            self.newer = Some(Store::new(at));
        }
        let rows: Vec<Row> = readings.iter().map(|reading| row(reading, at)).collect();
        self.older.insert(&rows);
        if let Some(newer) = &mut self.newer {
            newer.insert(&rows);
        }
    }

    pub(super) fn storage(&self) -> Result<Arc<dyn Storage>, QueryError> {
        self.older.storage.clone().ok_or_else(|| {
            QueryError::Execution("the embedded time series store could not be created".to_owned())
        })
    }

    pub(super) fn held(&self) -> Held {
        let mut held = Held::default();
        for store in [Some(&self.older), self.newer.as_ref()]
            .into_iter()
            .flatten()
        {
            let series = store.storage.as_ref().and_then(|s| s.list_metrics().ok());
            held.stores += 1;
            held.samples += store.samples;
            held.series += series.map_or(0, |s| s.len());
        }
        held
    }
}

impl Store {
    fn new(since: Moment) -> Self {
        let storage = StorageBuilder::new()
            .with_timestamp_precision(TimestampPrecision::Milliseconds)
            .with_retention_enforced(false)
            .with_wal_enabled(false)
            .build()
            .inspect_err(|error| tracing::error!(%error, "no embedded time series store"))
            .ok();
        Self {
            since,
            samples: 0,
            storage,
        }
    }

    fn insert(&mut self, rows: &[Row]) {
        let Some(storage) = &self.storage else { return };
        match storage.insert_rows(rows) {
            Ok(()) => self.samples += rows.len(),
            Err(error) => tracing::warn!(%error, "a scrape of an embedded cluster is lost"),
        }
    }
}

fn row(reading: &Reading, at: Moment) -> Row {
    let labels = reading
        .labels
        .iter()
        .map(|(name, value)| Label::new(*name, value.as_str()))
        .collect();
    Row::with_labels(reading.name, labels, DataPoint::new(at.0, reading.value))
}

pub(super) fn instant(
    storage: Arc<dyn Storage>,
    query: &str,
    at: Moment,
) -> Result<Answer, QueryError> {
    let expr = check(query)?;
    let value = Engine::with_precision(storage, TimestampPrecision::Milliseconds)
        .instant_query(&as_tsink_reads(query, &expr), at.0)
        .map_err(execution)?;
    Ok(answer(value, keeps_name(&expr)))
}

pub(super) fn range(
    storage: Arc<dyn Storage>,
    query: &str,
    start: Moment,
    end: Moment,
    step_ms: i64,
) -> Result<Answer, QueryError> {
    let expr = check(query)?;
    let value = Engine::with_precision(storage, TimestampPrecision::Milliseconds)
        .range_query(&as_tsink_reads(query, &expr), start.0, end.0, step_ms)
        .map_err(execution)?;
    Ok(answer(value, keeps_name(&expr)))
}

/// tsink takes queries that Prometheus refuses, so the stricter parser goes first.
fn check(query: &str) -> Result<Expr, QueryError> {
    if nesting(query) > MOST_NESTING {
        return Err(QueryError::Bad(format!(
            "the embedded prometheus takes no more than {MOST_NESTING} operators and brackets in a query"
        )));
    }
    let expr = promql_parser::parser::parse(query).map_err(QueryError::Bad)?;
    if has_subquery(&expr) {
        // tsink does not align their steps as Prometheus does: its values would be wrong.
        return Err(QueryError::Execution(
            "the embedded prometheus does not evaluate subqueries: use a plain range selector"
                .to_owned(),
        ));
    }
    Ok(expr)
}

/// The query for tsink, which leaves every label of the left side on the result of `a / on(x) b` and `a / ignoring(x) b`. Prometheus leaves
/// those that were compared; so does a sum by them around it, which has one element to each.
fn as_tsink_reads(query: &str, expr: &Expr) -> String {
    let mut expr = expr.clone();
    if sum_matches(&mut expr) {
        expr.to_string()
    } else {
        query.to_owned()
    }
}

/// Puts the sums there; whether there was any need.
fn sum_matches(expr: &mut Expr) -> bool {
    let inner = match expr {
        Expr::Aggregate(e) => {
            let param = e.param.as_deref_mut().is_some_and(sum_matches);
            return sum_matches(&mut e.expr) || param;
        }
        Expr::Binary(e) => {
            let left = sum_matches(&mut e.lhs);
            sum_matches(&mut e.rhs) || left
        }
        Expr::Unary(e) => return sum_matches(&mut e.expr),
        Expr::Paren(e) => return sum_matches(&mut e.expr),
        Expr::Call(e) => {
            // Every argument, also after the first that needed it.
            let args = e
                .args
                .args
                .iter_mut()
                .filter_map(|arg| sum_matches(arg).then_some(()));
            return args.count() > 0;
        }
        // A subquery is refused before.
        Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => return false,
    };
    let Expr::Binary(BinaryExpr { modifier, .. }) = expr else {
        return inner;
    };
    let one_to_one = modifier
        .as_ref()
        .filter(|m| m.card == VectorMatchCardinality::OneToOne);
    let Some(labels) = one_to_one.and_then(|m| m.matching.clone()) else {
        return inner;
    };
    *expr = Expr::Aggregate(AggregateExpr {
        op: TokenType::new(T_SUM),
        expr: Box::new(expr.clone()),
        param: None,
        modifier: Some(labels),
    });
    true
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn execution(error: PromqlError) -> QueryError {
    QueryError::Execution(error.to_string())
}

/// At least as deep as the query can nest: every operator and opening bracket of its text, those in label values too.
fn nesting(query: &str) -> usize {
    let marks = query.matches(['(', '[', '+', '-', '*', '/', '%', '^', '=', '<', '>', '!']);
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named = |word: &&str| {
        ["and", "or", "unless", "atan2"].contains(&word.to_ascii_lowercase().as_str())
    };
    marks.count() + words.filter(named).count()
}

fn has_subquery(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => true,
        Expr::Aggregate(e) => has_subquery(&e.expr) || e.param.as_deref().is_some_and(has_subquery),
        Expr::Unary(e) => has_subquery(&e.expr),
        Expr::Binary(e) => has_subquery(&e.lhs) || has_subquery(&e.rhs),
        Expr::Paren(e) => has_subquery(&e.expr),
        Expr::Call(e) => e.args.args.iter().any(|arg| has_subquery(arg)),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => false,
    }
}

/// Whether Prometheus leaves `__name__` in the result: tsink leaves it in after functions too.
fn keeps_name(expr: &Expr) -> bool {
    match expr {
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) => true,
        Expr::Paren(e) => keeps_name(&e.expr),
        Expr::Aggregate(e) => {
            ["topk", "bottomk"].contains(&e.op.to_string().as_str()) && keeps_name(&e.expr)
        }
        Expr::Binary(e) => {
            let filters = e.op.is_comparison_operator() && !e.return_bool() && !e.is_matching_on();
            (filters || e.op.is_set_operator()) && keeps_name(&e.lhs)
        }
        Expr::Call(e) => {
            let kept = [
                "last_over_time",
                "sort",
                "sort_desc",
                "label_replace",
                "label_join",
            ];
            kept.contains(&e.func.name) && e.args.args.first().is_some_and(|arg| keeps_name(arg))
        }
        Expr::Subquery(e) => keeps_name(&e.expr),
        Expr::Unary(_) | Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {
            false
        }
    }
}

fn answer(value: PromqlValue, keeps_name: bool) -> Answer {
    match value {
        PromqlValue::Scalar(value, _) => Answer::Scalar(value),
        PromqlValue::String(text, _) => Answer::Text(text),
        PromqlValue::InstantVector(samples) => Answer::Vector(
            samples
                .into_iter()
                .map(|s| (labels(s.metric, s.labels, keeps_name), s.value))
                .collect(),
        ),
        PromqlValue::RangeVector(series) => Answer::Matrix(
            series
                .into_iter()
                .map(|s| {
                    let points = s.samples.into_iter().map(|(at, v)| (Moment(at), v));
                    (labels(s.metric, s.labels, keeps_name), points.collect())
                })
                .collect(),
        ),
    }
}

fn labels(metric: String, labels: Vec<Label>, keeps_name: bool) -> Labels {
    let named = labels.into_iter().map(|l| (l.name, l.value));
    let mut out: Labels = named.filter(|(name, _)| name != "__name__").collect();
    if keeps_name && !metric.is_empty() {
        out.insert("__name__".to_owned(), metric);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_compares_some_of_the_labels_is_written_anew() {
        for (query, read) in [
            ("a / b", "a / b"),
            ("a or on (x) b", "a or on (x) b"),
            ("a/on(x)group_left b", "a/on(x)group_left b"),
            ("a / on(x) b", "sum by (x) (a / on (x) b)"),
            (
                "abs(-(a / ignoring(x, y) b)) > 1",
                "abs(-(sum without (x, y) (a / ignoring (x, y) b))) > 1",
            ),
            (
                r#"topk(1, a{b=~"c\\.d"} == bool on() (e - on(x) f))"#,
                r#"topk(1, sum(a{b=~"c\\.d"} == bool on () (sum by (x) (e - on (x) f))))"#,
            ),
        ] {
            let expr = check(query).unwrap();
            assert_eq!(as_tsink_reads(query, &expr), read);
        }
    }
}
