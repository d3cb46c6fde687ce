// Histograms over time, out of points that count up or that count one interval each.

// The points of a series as buckets: {time, counts, count, sum}, each of what came since the one
// before. A counter that went back began anew.
export function increments(series) {
  const cumulative = series.temporality !== "delta";
  const found = [];
  let before = null;
  for (const point of series.items) {
    const { edges, counts } = series.layout(point);
    const began = !cumulative || !before || point.count < before.count || (point.start && before.start && point.start !== before.start);
    found.push({
      time: Date.parse(point.time) / 1000,
      counts: began ? counts : counts.map((value, index) => Math.max(0, value - before.counts[index])),
      count: began ? point.count : point.count - before.count,
      sum: Number(began ? point.sum : point.sum - before.sum) || 0,
      edges,
    });
    before = { counts, count: point.count, sum: point.sum, start: point.start };
  }
  return found;
}

// Give all series the same edges, upper ones; the last bucket has none. Of exponential histograms
// the coarsest scale is taken; values of 0 and less are in the first bucket.
export function withLayout(list) {
  const points = list.flatMap((series) => series.items);
  if (points.some((point) => point.scale !== undefined)) {
    const scale = Math.min(...points.map((point) => point.scale));
    const indexes = (point) => point.positive.counts.map((_, index) => (point.positive.offset + index) >> (point.scale - scale));
    let low = Infinity;
    let high = -Infinity;
    for (const point of points) for (const index of indexes(point)) { low = Math.min(low, index); high = Math.max(high, index); }
    const size = high >= low ? high - low + 1 : 0;
    const edges = [0, ...Array.from({ length: size }, (_, index) => 2 ** ((low + index + 1) * 2 ** -scale))];
    const layout = (point) => {
      const counts = new Array(size + 2).fill(0);
      counts[0] = point.zero_count + point.negative.counts.reduce((sum, one) => sum + one, 0);
      const at = indexes(point);
      point.positive.counts.forEach((value, index) => { counts[1 + at[index] - low] += value; });
      return { edges, counts };
    };
    return { edges, list: list.map((series) => ({ ...series, layout })) };
  }
  const edges = [...new Set(points.flatMap((point) => point.bounds ?? []))].sort((one, other) => one - other);
  const layout = (point) => {
    const counts = new Array(edges.length + 1).fill(0);
    (point.counts ?? []).forEach((value, index) => {
      const edge = point.bounds[index];
      counts[edge === undefined ? edges.length : edges.indexOf(edge)] += value;
    });
    return { edges, counts };
  };
  return { edges, list: list.map((series) => ({ ...series, layout })) };
}

// The value below which a share of the observations lies, as Prometheus' histogram_quantile has it:
// evenly spread inside a bucket; beyond the last edge it is that edge.
// https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
export function quantile(share, edges, counts) {
  const total = counts.reduce((sum, one) => sum + one, 0);
  if (!total || !edges.length) return null;
  let below = 0;
  const rank = share * total;
  for (let index = 0; index < counts.length; index += 1) {
    if (below + counts[index] >= rank && counts[index]) {
      if (index >= edges.length) return edges[edges.length - 1];
      const low = index ? edges[index - 1] : Math.min(0, edges[0]);
      return low + (edges[index] - low) * ((rank - below) / counts[index]);
    }
    below += counts[index];
  }
  return edges[edges.length - 1];
}

// What came at about the same time, of several series, as one.
export function together(parts) {
  const found = new Map();
  for (const part of parts) {
    const key = Math.round(part.time * 4);
    const one = found.get(key);
    if (one) {
      one.count += part.count;
      one.sum += part.sum;
      one.counts = one.counts.map((value, index) => value + part.counts[index]);
    } else {
      found.set(key, { ...part });
    }
  }
  return [...found.values()].sort((one, other) => one.time - other.time);
}

export function added(parts, size) {
  const sums = new Array(size).fill(0);
  for (const part of parts) part.counts.forEach((value, index) => { sums[index] += value; });
  return sums;
}
