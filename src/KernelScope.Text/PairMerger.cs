namespace KernelScope.Text;

/// <summary>A merge of two neighbours: the lowest rank goes first.</summary>
internal readonly record struct PairMerge(int Rank, int Id);

/// <summary>
/// Byte-pair merging as Hugging Face's tokenizers library does it: of all neighbours that have a merge, the pair of the lowest rank merges
/// first, the leftmost on ties. A candidate that comes up late still counts if its two neighbours now merge into the same piece.
/// </summary>
internal sealed class PairMerger(JsonTokenModel model)
{
    private const int None = -1;

    private readonly PriorityQueue<int, ulong> _agenda = new();
    private readonly List<Symbol> _symbols = [];

    private record struct Symbol(int Id, int Previous, int Next, bool IsGone);

    /// <summary>Appends the ids of one word.</summary>
    /// <param name="padded">The normalised text.</param>
    /// <param name="start">Where the word begins.</param>
    /// <param name="end">Where it ends.</param>
    /// <param name="ids">Where its ids go.</param>
    public void Encode(ReadOnlySpan<byte> padded, int start, int end, List<int> ids)
    {
        if (model.IgnoresMerges && model.Pieces.Find(padded, start, end - start) is >= 0 and int whole)
        {
            ids.Add(whole);
            return;
        }

        _symbols.Clear();
        AddCharacters(padded, start, end);
        for (int i = 0; i + 1 < _symbols.Count; i++)
            Offer(i);
        while (_agenda.TryDequeue(out int id, out ulong key))
            Merge((int)(uint)key, id);
        foreach (Symbol symbol in _symbols)
        {
            if (!symbol.IsGone)
                ids.Add(symbol.Id);
        }
    }

    // An unknown token waits for the next piece, so that it can be fused, and bytes do not end its wait: the library's order.
    private void AddCharacters(ReadOnlySpan<byte> padded, int start, int end)
    {
        bool unknown = false;
        for (int size; start < end; start += size)
        {
            size = JoinTable.SizeOf(padded[start]);
            int id = model.Pieces.Find(padded, start, size);
            if (id < 0 && AddBytes(padded.Slice(start, size)))
                continue;
            if (unknown && (id >= 0 || !model.FusesUnknown))
                Add(model.UnknownToken);
            unknown = id < 0 && model.UnknownToken >= 0;
            if (id >= 0)
                Add(id);
        }

        if (unknown)
            Add(model.UnknownToken);
        if (_symbols.Count > 0)
            _symbols[^1] = _symbols[^1] with { Next = None };
    }

    /// <summary>Adds a character's bytes, if each has a piece.</summary>
    private bool AddBytes(ReadOnlySpan<byte> character)
    {
        if (model.ByteIds is not int[] ids)
            return false;
        foreach (byte b in character)
        {
            if (ids[b] < 0)
                return false;
        }

        foreach (byte b in character)
            Add(ids[b]);
        return true;
    }

    private void Add(int id) => _symbols.Add(new Symbol(id, _symbols.Count - 1, _symbols.Count + 1, IsGone: false));

    private void Offer(int left)
    {
        if (left != None && _symbols[left].Next is not None and int right
            && model.Merges.TryGetValue(Key(_symbols[left].Id, _symbols[right].Id), out PairMerge merge))
            _agenda.Enqueue(merge.Id, ((ulong)(uint)merge.Rank << 32) | (uint)left);
    }

    private void Merge(int left, int id)
    {
        Symbol symbol = _symbols[left];
        if (symbol.IsGone || symbol.Next == None)
            return;
        Symbol right = _symbols[symbol.Next];
        if (!model.Merges.TryGetValue(Key(symbol.Id, right.Id), out PairMerge merge) || merge.Id != id)
            return;
        _symbols[symbol.Next] = right with { IsGone = true };
        _symbols[left] = symbol with { Id = id, Next = right.Next };
        if (right.Next != None)
            _symbols[right.Next] = _symbols[right.Next] with { Previous = left };
        Offer(symbol.Previous);
        Offer(left);
    }

    public static ulong Key(int left, int right) => ((ulong)(uint)left << 32) | (uint)right;
}
