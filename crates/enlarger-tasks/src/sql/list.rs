//! Lists of tasks. Where a page begins is found by counting: `tallied` has the number of tasks in blocks of several sizes, so
//! only few rows before the page are ever read, whatever its number and however rare what is looked for.

use super::{
    Tx,
    query::{Query, query},
    row::{self, Row},
};
use crate::{
    error::StoreError,
    store::{ListQuery, Page, Scope},
    task::Task,
};

/// How many tasks in a row are counted together, as in the schema.
const SIZES: [i64; 3] = [131_072, 4_096, 128];
/// The size of the block that has all tasks.
pub(super) const ALL: i64 = i64::MAX;
/// How many ranges of rows one statement asks for; databases limit its length.
const RANGES: usize = 64;

/// First and last `seq`.
type Range = (i64, i64);

pub(super) async fn list(tx: &mut Tx<'_>, list: ListQuery, scope: Scope) -> Result<Page, StoreError> {
    let take = list.per_page.clamp(1, 1000);
    let mut skip = list.page.saturating_sub(1).saturating_mul(take);
    let total = query("SELECT CAST(coalesce(sum(n), 0) AS BIGINT) AS total FROM tallied WHERE ");
    let total: u64 = in_blocks(total, ALL, &list, &scope).fetch_one(tx.conn).await?.count("total")?;
    if skip >= total {
        return Ok(Page { tasks: Vec::new(), total });
    }
    let mut ranges = vec![(0, i64::MAX)];
    for size in SIZES {
        let mut blocks = Vec::new();
        for ranges in ranges.chunks(RANGES) {
            blocks.extend(counts(tx, &list, &scope, ranges, size).await?);
        }
        ranges = narrow(&blocks, size, &mut skip, take)?;
    }
    let mut tasks = Vec::new();
    for ranges in ranges.chunks(RANGES) {
        let left = take - tasks.len() as u64;
        if left == 0 {
            break;
        }
        let page = rows(tx, &list, &scope, ranges, skip, left).await?;
        // What is skipped lies in the first block.
        skip = 0;
        tasks.extend(page);
    }
    Ok(Page { tasks, total })
}

/// The blocks in which a page lies, with adjacent ones as one range, the newest first. `skip` becomes the number of tasks in the first
/// of them that belong to pages before.
fn narrow(blocks: &[Row], size: i64, skip: &mut u64, take: u64) -> Result<Vec<Range>, StoreError> {
    let mut ranges: Vec<Range> = Vec::new();
    // How many tasks the ranges have, those to skip included.
    let mut have = 0;
    for row in blocks {
        let (block, n): (i64, u64) = (row.integer("block")?, row.count("n")?);
        if ranges.is_empty() && n <= *skip {
            *skip -= n;
            continue;
        }
        let first = block * size;
        match ranges.last_mut() {
            Some(range) if range.0 == first + size => range.0 = first,
            _ if n > 0 => ranges.push((first, first + (size - 1))),
            _ => {}
        }
        have += n;
        if have >= take + *skip {
            break;
        }
    }
    Ok(ranges)
}

/// How many tasks (`n`) each `block` in these ranges has, the newest first.
async fn counts(
    tx: &mut Tx<'_>,
    list: &ListQuery,
    scope: &Scope,
    ranges: &[Range],
    size: i64,
) -> Result<Vec<Row>, StoreError> {
    let of_range = |sql: Query, (first, last): Range| {
        let sql =
            in_blocks(sql.push("SELECT block, CAST(sum(n) AS BIGINT) AS n FROM tallied WHERE "), size, list, scope);
        let sql = sql.push(" AND block BETWEEN ").push_bind(first / size).push(" AND ").push_bind(last / size);
        sql.push(" GROUP BY block")
    };
    union(query(""), ranges, of_range).push(" ORDER BY block DESC").fetch_all(tx.conn).await
}

async fn rows(
    tx: &mut Tx<'_>,
    list: &ListQuery,
    scope: &Scope,
    ranges: &[Range],
    skip: u64,
    take: u64,
) -> Result<Vec<Task>, StoreError> {
    let of_range = |sql: Query, (first, last): Range| {
        let sql = sql.push("SELECT * FROM tasks WHERE hidden = 0 AND seq BETWEEN ").push_bind(first);
        let sql = sql.push(" AND ").push_bind(last);
        let sql = match scope {
            Scope::All => sql,
            Scope::Owner(owner) => sql.push(" AND owner = ").push_bind(owner.as_str()),
        };
        filtered(sql, list)
    };
    let page = union(query("SELECT * FROM ("), ranges, of_range).push(") AS page ORDER BY seq DESC LIMIT ");
    let page = page.push_bind(take).push(" OFFSET ").push_bind(skip);
    row::tasks(&page.fetch_all(tx.conn).await?)
}

/// Asks for each range by itself, so that each is looked up by whatever index suits it.
fn union(mut sql: Query, ranges: &[Range], of_range: impl Fn(Query, Range) -> Query) -> Query {
    for (index, &range) in ranges.iter().enumerate() {
        sql = of_range(sql.push(if index == 0 { "" } else { " UNION ALL " }), range);
    }
    sql
}

/// The conditions of a list, on blocks of tasks.
fn in_blocks(sql: Query, size: i64, list: &ListQuery, scope: &Scope) -> Query {
    let whose = match scope {
        Scope::All => "*".to_owned(),
        Scope::Owner(owner) => format!("={owner}"),
    };
    filtered(sql.push("whose = ").push_bind(whose).push(" AND size = ").push_bind(size), list)
}

/// Those that tasks and blocks of tasks have in common.
fn filtered(mut sql: Query, list: &ListQuery) -> Query {
    if !list.kinds.is_empty() {
        sql = sql.push(" AND kind IN ").push_list(list.kinds.iter().map(String::as_str));
    }
    if !list.states.is_empty() {
        sql = sql.push(" AND state IN ").push_list(list.states.iter().copied());
    }
    sql
}
