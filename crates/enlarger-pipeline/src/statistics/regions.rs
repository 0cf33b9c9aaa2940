//! Parts of a picture that show something else than the rest: photographs on pages and screens, drawings beside photographs.

use serde::{Deserialize, Serialize};

use crate::{classifier::KINDS, request::Crop};

use super::{Condition, Content, condition, probable, survey::Survey, words};

/// A rectangle that differs from the picture around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Where it lies, in pixels of the upright picture.
    pub area: Crop,
    /// What it shows.
    pub content: Content,
    /// What it suffers from.
    pub condition: Condition,
}

/// What makes blocks a region.
struct Rule {
    content: Content,
    /// Whether a block with these probabilities belongs to it.
    belongs: fn([f32; KINDS]) -> bool,
    /// The least number of connected blocks.
    least: usize,
    /// Share of the blocks of their rectangle, at least.
    filled: f32,
    /// Pixels by which the rectangle grows on each side.
    grow: i64,
}

/// On a screen and a page that were looked at, blocks of photographs had 0.01 to 0.3, plain ones up to 0.84, and all others at
/// least 0.6. What is enlarged as a photograph is hardly ever wrong: half a block more at each side, since an edge may lie
/// anywhere in it.
const PHOTO_IN_ART: Rule =
    Rule { content: Content::Photo, belongs: |[_, _, drawn]| drawn < 0.4, least: 4, filled: 0.5, grow: 32 };
/// Networks for drawings turn photographs into cartoons, so only where there is no doubt.
const ART_IN_PHOTO: Rule =
    Rule { content: Content::Art, belongs: |[_, _, drawn]| drawn > 0.95, least: 6, filled: 0.9, grow: -8 };
/// Noise in the shadows, a picture pasted in that was compressed.
const DAMAGED_IN_CLEAN: Rule =
    Rule { content: Content::Photo, belongs: |[damaged, _, _]| damaged > 0.8, least: 4, filled: 0.5, grow: 16 };

/// The regions of a picture that mostly shows and suffers from what is given. They do not overlap.
pub(super) fn find(survey: &Survey, content: Content, condition: Condition) -> Vec<Region> {
    let rules: &[Rule] = match (content, condition) {
        (Content::Art, _) => &[PHOTO_IN_ART],
        (Content::Photo, Condition::Clean) => &[ART_IN_PHOTO, DAMAGED_IN_CLEAN],
        (Content::Photo, _) => &[ART_IN_PHOTO],
    };
    let mut regions: Vec<Region> = Vec::new();
    for rule in rules {
        for found in rule.find(survey) {
            if !regions.iter().any(|other| other.meets(&found)) {
                regions.push(found);
            }
        }
    }
    regions
}

impl Rule {
    fn find(&self, survey: &Survey) -> Vec<Region> {
        let belongs: Vec<bool> =
            survey.places().map(|place| (self.belongs)(probable(survey.block(place).mean()))).collect();
        let large = connected(&belongs, survey.columns.len()).into_iter().filter_map(|blocks| {
            let whole = Blocks::around(&blocks);
            let filled = blocks.len() as f32 / whole.count() as f32;
            (blocks.len() >= self.least && filled >= self.filled).then_some(whole)
        });
        let regions = merged(large.collect()).into_iter().filter_map(|blocks| {
            let area = blocks.area(survey, self.grow)?;
            // Blocks at its sides are half of what is around it.
            let inside = blocks.places().filter(|[x, y]| belongs[y * survey.columns.len() + x]);
            let condition = condition(probable(survey.mean(inside)?));
            Some(Region { area, content: self.content, condition })
        });
        regions.collect()
    }
}

impl Region {
    /// A description for a plan.
    pub(crate) fn words(&self) -> &'static str {
        words(self.content, self.condition)
    }

    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (self.area, other.area);
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    /// Whether a block's centre lies in it.
    pub(super) fn holds(&self, survey: &Survey, [column, row]: [usize; 2]) -> bool {
        let inside =
            |centre: usize, start: u32, side: u32| (start as usize..start as usize + side as usize).contains(&centre);
        let centre = |range: &std::ops::Range<usize>| range.start.midpoint(range.end);
        inside(centre(&survey.columns[column]), self.area.x, self.area.width)
            && inside(centre(&survey.rows[row]), self.area.y, self.area.height)
    }
}

/// A rectangle of blocks: first and last columns and rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Blocks {
    first: [usize; 2],
    last: [usize; 2],
}

impl Blocks {
    /// The smallest around some places.
    fn around(places: &[[usize; 2]]) -> Self {
        let side = |i: usize| (places.iter().map(|p| p[i]).min(), places.iter().map(|p| p[i]).max());
        let ends = [side(0), side(1)].map(|(first, last)| (first.unwrap_or(0), last.unwrap_or(0)));
        Self { first: ends.map(|(first, _)| first), last: ends.map(|(_, last)| last) }
    }

    fn count(&self) -> usize {
        (0..2).map(|i| self.last[i] - self.first[i] + 1).product()
    }

    fn places(self) -> impl Iterator<Item = [usize; 2]> {
        (self.first[1]..=self.last[1])
            .flat_map(move |row| (self.first[0]..=self.last[0]).map(move |column| [column, row]))
    }

    /// Whether they overlap or touch, so that they would once they have grown.
    fn meets(&self, other: &Self) -> bool {
        (0..2).all(|i| self.first[i] <= other.last[i] + 1 && other.first[i] <= self.last[i] + 1)
    }

    /// In pixels, grown on each side as far as the picture goes; `None` if nothing is left.
    fn area(&self, survey: &Survey, grow: i64) -> Option<Crop> {
        let side = |i: usize, ranges: &[std::ops::Range<usize>]| {
            let whole = ranges.last().map_or(0, |last| last.end) as i64;
            // Sides at the picture's edge stay there.
            let start = if self.first[i] == 0 { 0 } else { ranges[self.first[i]].start as i64 - grow };
            let end = if self.last[i] + 1 == ranges.len() { whole } else { ranges[self.last[i]].end as i64 + grow };
            let (start, end) = (start.max(0), end.min(whole));
            (end > start).then_some((start as u32, (end - start) as u32))
        };
        let ((x, width), (y, height)) = (side(0, &survey.columns)?, side(1, &survey.rows)?);
        Some(Crop { x, y, width, height })
    }
}

/// The places that are set, in groups that hang together across or down.
fn connected(set: &[bool], columns: usize) -> Vec<Vec<[usize; 2]>> {
    let rows = set.len() / columns;
    let mut left = set.to_vec();
    let mut groups = Vec::new();
    for start in 0..set.len() {
        if !left[start] {
            continue;
        }
        let mut group = Vec::new();
        let mut next = vec![[start % columns, start / columns]];
        while let Some([column, row]) = next.pop() {
            if column >= columns || row >= rows || !std::mem::take(&mut left[row * columns + column]) {
                continue;
            }
            group.push([column, row]);
            let (before, above) = (column.wrapping_sub(1), row.wrapping_sub(1));
            next.extend([[before, row], [column + 1, row], [column, above], [column, row + 1]]);
        }
        groups.push(group);
    }
    groups
}

/// Rectangles that meet become one.
fn merged(mut boxes: Vec<Blocks>) -> Vec<Blocks> {
    let mut done: Vec<Blocks> = Vec::new();
    while let Some(next) = boxes.pop() {
        match done.iter().position(|other| other.meets(&next)) {
            Some(at) => {
                let other = done.swap_remove(at);
                boxes.push(Blocks::around(&[next.first, next.last, other.first, other.last]));
            }
            None => done.push(next),
        }
    }
    done.sort_by_key(|blocks| [blocks.first[1], blocks.first[0]]);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(first: [usize; 2], last: [usize; 2]) -> Blocks {
        Blocks { first, last }
    }

    #[test]
    fn what_hangs_together_is_one_group() {
        let map = ["##..#", "#...#", "..#..", "###.."].concat();
        let set: Vec<bool> = map.chars().map(|c| c == '#').collect();
        let mut sizes: Vec<usize> = connected(&set, 5).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3, 4]);
    }

    #[test]
    fn rectangles_that_meet_become_one_and_others_stay() {
        let boxes =
            vec![blocks([0, 0], [1, 1]), blocks([9, 9], [9, 9]), blocks([2, 2], [3, 3]), blocks([5, 1], [6, 1])];
        assert_eq!(merged(boxes), [blocks([0, 0], [3, 3]), blocks([5, 1], [6, 1]), blocks([9, 9], [9, 9])]);
    }
}
