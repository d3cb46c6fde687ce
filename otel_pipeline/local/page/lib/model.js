// A trace as a tree, its rows, and its critical path. Nothing here recurses: a trace may be deep.

export function model(outline) {
  const at = Object.fromEntries(outline.columns.map((name, index) => [name, index]));
  const nodes = new Map();
  for (const row of outline.items) {
    const start = row[at.start_ns];
    const length = row[at.duration_ns];
    nodes.set(row[at.span_id], {
      id: row[at.span_id], parentId: row[at.parent_span_id] || null, name: row[at.name],
      resource: row[at.resource], start, duration: length, end: start + length,
      error: row[at.status] === "error", status: row[at.status],
      children: [], parent: null, depth: 0, errors: 0, critical: [], orphan: false,
    });
  }
  const roots = [];
  for (const node of nodes.values()) {
    const parent = node.parentId && nodes.get(node.parentId);
    if (parent && parent !== node) {
      node.parent = parent;
      parent.children.push(node);
    } else {
      node.orphan = node.parentId !== null;
      roots.push(node);
    }
  }
  const order = (one, other) => one.start - other.start || other.duration - one.duration;
  const seen = new Set();
  const visit = (root) => {
    const stack = [root];
    while (stack.length) {
      const node = stack.pop();
      if (seen.has(node)) continue;
      seen.add(node);
      node.depth = node.parent ? node.parent.depth + 1 : 0;
      node.children.sort(order);
      stack.push(...node.children);
    }
  };
  roots.sort(order).forEach(visit);
  for (const node of nodes.values()) {
    if (seen.has(node)) continue; // its ancestors lead back to itself: cut there
    node.parent.children.splice(node.parent.children.indexOf(node), 1);
    node.parent = null;
    node.orphan = true;
    roots.push(node);
    visit(node);
  }
  const all = rows(roots, new Set());
  for (const node of [...all].reverse()) {
    node.errors += node.error ? 1 : 0;
    if (node.parent) node.parent.errors += node.errors;
  }
  const model_ = { nodes, roots, all, total: Math.max(outline.duration_ns, 1) };
  if (roots.length) markCriticalPath(roots.reduce((one, other) => (other.duration > one.duration ? other : one)));
  return model_;
}

// The nodes in the order of their rows; what is below a folded one is left out.
export function rows(roots, folded) {
  const found = [];
  const stack = [...roots].reverse();
  while (stack.length) {
    const node = stack.pop();
    found.push(node);
    if (!folded.has(node.id)) {
      for (let index = node.children.length - 1; index >= 0; index -= 1) stack.push(node.children[index]);
    }
  }
  return found;
}

// What the end of the root waited for: from its end backwards, always into the child that ended
// last. Each node gets the parts of time in which it was the one that was waited for.
function markCriticalPath(root) {
  const work = [[root, root.end]];
  while (work.length) {
    const [node, limit] = work.pop();
    let time = limit;
    const ending = [...node.children].sort((one, other) => other.end - one.end);
    for (const child of ending) {
      const end = Math.min(child.end, limit);
      if (end > time || child.start >= end) continue;
      if (end < time) node.critical.push([end, time]);
      work.push([child, end]);
      time = Math.max(child.start, node.start);
    }
    if (time > node.start) node.critical.push([node.start, time]);
  }
}

export function criticalTime(node) {
  return node.critical.reduce((sum, [from, to]) => sum + to - from, 0);
}
