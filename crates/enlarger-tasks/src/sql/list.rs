//! Lists of tasks. Where a page begins is found by counting: `tallied` has the number of tasks among [`BLOCK`] in a row, so that
//! only few rows before the page are ever read, whatever its number and however rare what is looked for.

use super::{
    Tx,
    query::{Query, query},
    row,
};
use crate::{
    error::StoreError,
    store::{ListQuery, Page, Scope},
    task::Task,
};

/// How many tasks in a row are counted together. The triggers of the schema have it, too.
const BLOCK: i64 = 128;
/// How many ranges of rows one statement asks for; databases limit its length.
const RANGES: usize = 64;

pub(super) async fn list(tx: &mut Tx<'_>, list: ListQuery, scope: Scope) -> Result<Page, StoreError> {
    let per_page = list.per_page.clamp(1, 1000);
    let skip = list.page.saturating_sub(1).saturating_mul(per_page);
    let total = query("SELECT CAST(coalesce(sum(n), 0) AS BIGINT) AS total FROM tallied WHERE block = -1");
    let total: u64 = filtered(total, &list, &scope).fetch_one(tx.conn).await?.count("total")?;
    if skip >= total {
        return Ok(Page { tasks: Vec::new(), total });
    }
    let Found { ranges, mut skip } = find(tx, &list, &scope, skip, per_page).await?;
    let mut tasks = Vec::new();
    for ranges in ranges.chunks(RANGES) {
        let left = per_page - tasks.len() as u64;
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

/// Where the rows of a page are.
struct Found {
    /// First and last `seq` of ranges, the newest first.
    ranges: Vec<(i64, i64)>,
    /// How many tasks of the first range belong to pages before.
    skip: u64,
}

async fn find(tx: &mut Tx<'_>, list: &ListQuery, scope: &Scope, skip: u64, take: u64) -> Result<Found, StoreError> {
    let mut found = Found { ranges: Vec::new(), skip };
    // How many tasks the ranges have, those to skip included.
    let mut have = 0;
    let mut before = i64::MAX;
    // As many blocks as it takes if each is full of what is looked for, then more and more.
    let mut blocks = (skip + take) / BLOCK as u64 + 2;
    loop {
        let counts = "SELECT block, CAST(sum(n) AS BIGINT) AS n FROM tallied WHERE block >= 0 AND block < ";
        let counts = filtered(query(counts).push_bind(before), list, scope);
        let counts = counts.push(" GROUP BY block ORDER BY block DESC LIMIT ").push_bind(blocks);
        let counts = counts.fetch_all(tx.conn).await?;
        let Some(last) = counts.last() else { return Ok(found) };
        before = last.integer("block")?;
        blocks *= 2;
        for row in &counts {
            let (block, n): (i64, u64) = (row.integer("block")?, row.count("n")?);
            if found.ranges.is_empty() && n <= found.skip {
                found.skip -= n;
                continue;
            }
            let first = block * BLOCK;
            match found.ranges.last_mut() {
                Some(range) if range.0 == first + BLOCK => range.0 = first,
                _ if n > 0 => found.ranges.push((first, first + BLOCK - 1)),
                _ => continue,
            }
            have += n;
            if have >= take + found.skip {
                return Ok(found);
            }
        }
    }
}

async fn rows(
    tx: &mut Tx<'_>,
    list: &ListQuery,
    scope: &Scope,
    ranges: &[(i64, i64)],
    skip: u64,
    take: u64,
) -> Result<Vec<Task>, StoreError> {
    // Each range by itself, so that each is looked up by whatever index suits it.
    let mut page = query("SELECT * FROM (");
    for (index, &(first, last)) in ranges.iter().enumerate() {
        page = page.push(if index == 0 { "" } else { " UNION ALL " });
        page = page.push("SELECT * FROM tasks WHERE hidden = 0 AND seq BETWEEN ").push_bind(first);
        page = filtered(page.push(" AND ").push_bind(last), list, scope);
    }
    let page = page.push(") AS page ORDER BY seq DESC LIMIT ").push_bind(take).push(" OFFSET ").push_bind(skip);
    row::tasks(&page.fetch_all(tx.conn).await?)
}

/// The conditions of a list, on tasks or on their numbers.
fn filtered(mut sql: Query, list: &ListQuery, scope: &Scope) -> Query {
    if let Scope::Owner(owner) = scope {
        sql = sql.push(" AND owner = ").push_bind(owner.as_str());
    }
    if !list.kinds.is_empty() {
        sql = sql.push(" AND kind IN ").push_list(list.kinds.iter().map(String::as_str));
    }
    if !list.states.is_empty() {
        sql = sql.push(" AND state IN ").push_list(list.states.iter().copied());
    }
    sql
}
