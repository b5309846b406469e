using KernelScope.PtxEmulator.Execution;
using KernelScope.PtxEmulator.Execution.Ops;

namespace KernelScope.PtxEmulator.Translation;

/// <summary>
/// Finds for every branch where its sides meet again: the start of its block's immediate post-dominator. Edges to instructions that only return do
/// not count, since lanes that take them are gone.
/// </summary>
internal static class ControlFlow
{
    public static void FindMeetingPoints(IReadOnlyList<Op> ops)
    {
        foreach (Branch branch in ops.OfType<Branch>())
        {
            branch.TargetExits = Exits(ops[branch.Target]);
            branch.NextExits = branch.Guard >= 0 && Exits(ops[branch.Index + 1]);
        }
        int[] starts = Leaders(ops);
        var blockOf = new int[ops.Count];
        for (int block = 0; block < starts.Length; block++)
            for (int i = starts[block]; i < (block + 1 < starts.Length ? starts[block + 1] : ops.Count); i++)
                blockOf[i] = block;
        List<int>[] successors = Successors(ops, starts, blockOf);
        RestoreExits(ops, starts, successors);
        int[] meets = PostDominators(successors);
        for (int block = 0; block < starts.Length; block++)
        {
            Op last = ops[(block + 1 < starts.Length ? starts[block + 1] : ops.Count) - 1];
            int meet = meets[block] >= 0 && meets[block] < starts.Length ? starts[meets[block]] : -1;
            if (last is Branch branch)
                branch.Meet = meet;
            else if (last is IndexedBranch indexed)
                indexed.Meet = meet;
        }
    }

    private static bool Exits(Op op) => op is ExitOp && op.Guard < 0;

    private static bool EndsBlock(Op op) => op is Branch or IndexedBranch || (op.Guard < 0 && op is ExitOp or TrapOp);

    private static int[] Leaders(IReadOnlyList<Op> ops)
    {
        var leaders = new SortedSet<int> { 0 };
        for (int i = 0; i < ops.Count; i++)
        {
            if (ops[i] is Branch branch)
                leaders.Add(branch.Target);
            if (ops[i] is IndexedBranch indexed)
                leaders.UnionWith(indexed.Targets);
            if (EndsBlock(ops[i]) && i + 1 < ops.Count)
                leaders.Add(i + 1);
        }
        return [.. leaders];
    }

    /// <summary>Successors by block; block number = count stands for the exit.</summary>
    private static List<int>[] Successors(IReadOnlyList<Op> ops, int[] starts, int[] blockOf)
    {
        var successors = new List<int>[starts.Length];
        for (int block = 0; block < starts.Length; block++)
        {
            int end = block + 1 < starts.Length ? starts[block + 1] : ops.Count;
            var next = new List<int>();
            switch (ops[end - 1])
            {
                case Branch branch:
                    bool conditional = branch.Guard >= 0;
                    if (!branch.TargetExits)
                        next.Add(blockOf[branch.Target]);
                    if (conditional && !branch.NextExits)
                        next.Add(blockOf[end]);
                    break;
                case IndexedBranch indexed:
                    next.AddRange(indexed.Targets.Distinct().Select(t => blockOf[t]));
                    break;
                case Op last when EndsBlock(last):
                    break;
                default:
                    next.Add(blockOf[end]);
                    break;
            }
            if (next.Count == 0)
                next.Add(starts.Length);
            successors[block] = next;
        }
        return successors;
    }

    /// <summary>A loop that is left only by returning would have no way out, nor would anything before it: there the edges to returns do count.</summary>
    private static void RestoreExits(IReadOnlyList<Op> ops, int[] starts, List<int>[] successors)
    {
        int exit = successors.Length;
        var reaches = new bool[exit + 1];
        reaches[exit] = true;
        for (bool changed = true; changed;)
        {
            changed = false;
            for (int block = exit - 1; block >= 0; block--)
                if (!reaches[block] && successors[block].Exists(next => reaches[next]))
                    changed = reaches[block] = true;
        }
        for (int block = 0; block < exit; block++)
            if (!reaches[block] && ops[(block + 1 < exit ? starts[block + 1] : ops.Count) - 1] is Branch branch
                && (branch.TargetExits || branch.NextExits))
                successors[block].Add(exit);
    }

    /// <summary>Immediate post-dominators, by iteration over the reversed graph; -1 for blocks from which no exit can be reached.</summary>
    private static int[] PostDominators(List<int>[] successors)
    {
        int exit = successors.Length;
        var predecessors = new List<int>[exit + 1];
        for (int i = 0; i <= exit; i++)
            predecessors[i] = [];
        for (int block = 0; block < exit; block++)
            foreach (int next in successors[block])
                predecessors[next].Add(block);
        int[] order = ReverseOrder(predecessors, exit, out int[] rank);
        var meets = new int[exit + 1];
        Array.Fill(meets, -1);
        meets[exit] = exit;
        for (bool changed = true; changed;)
        {
            changed = false;
            foreach (int block in order)
            {
                int meet = -1;
                foreach (int next in successors[block])
                    if (rank[next] >= 0 && (next == exit || meets[next] >= 0))
                        meet = meet < 0 ? next : Intersect(meet, next, meets, rank);
                if (meet >= 0 && meets[block] != meet)
                {
                    meets[block] = meet;
                    changed = true;
                }
            }
        }
        return meets;
    }

    private static int Intersect(int a, int b, int[] meets, int[] rank)
    {
        while (a != b)
        {
            while (rank[a] > rank[b])
                a = meets[a];
            while (rank[b] > rank[a])
                b = meets[b];
        }
        return a;
    }

    /// <summary>Blocks in an order in which, loops aside, a block comes after what follows it in the program; the exit has rank 0.</summary>
    private static int[] ReverseOrder(List<int>[] predecessors, int exit, out int[] rank)
    {
        rank = new int[exit + 1];
        Array.Fill(rank, -1);
        var visited = new bool[exit + 1];
        var finished = new List<int>();
        var stack = new Stack<(int Node, int Next)>();
        stack.Push((exit, 0));
        visited[exit] = true;
        while (stack.Count > 0)
        {
            (int node, int next) = stack.Pop();
            if (next >= predecessors[node].Count)
            {
                finished.Add(node);
                continue;
            }
            stack.Push((node, next + 1));
            int before = predecessors[node][next];
            if (visited[before])
                continue;
            visited[before] = true;
            stack.Push((before, 0));
        }
        finished.Reverse();
        for (int i = 0; i < finished.Count; i++)
            rank[finished[i]] = i;
        return [.. finished.Skip(1)];
    }
}
