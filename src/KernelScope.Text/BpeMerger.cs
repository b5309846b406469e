namespace KernelScope.Text;

/// <summary>
/// Byte-pair merging as sentencepiece does it (spec A.6): of all neighbours whose joined text is a piece, the pair with the highest
/// score merges first, the leftmost on ties, until none is left. Candidates wait in a priority queue and are dropped when they come up
/// stale, so n symbols take O(n log n), whatever the text; each look-up reads at most the longest piece's bytes.
/// </summary>
internal sealed class BpeMerger(TokenizerModel model)
{
    private const int None = -1;

    private readonly PieceTable _pieces = model.Pieces;
    private readonly PriorityQueue<int, ulong> _agenda = new();

    /// <summary>
    /// For an UNUSED piece, the length of the left part that it merges from. That depends on nothing around it: what merges inside a
    /// stretch of text merges in the same order wherever the stretch stands.
    /// </summary>
    private readonly Dictionary<int, int> _unusedSplits = [];
    private Symbol[] _symbols = new Symbol[64];
    private int _count;

    private struct Symbol
    {
        public int Start, Length, Previous, Next, Id;
    }

    /// <summary>Appends one character of the text, right after the one before.</summary>
    public void Add(int start, int length)
    {
        if (_count == _symbols.Length)
            Array.Resize(ref _symbols, _count * 2);
        _symbols[_count] = new Symbol { Start = start, Length = length, Previous = _count - 1, Next = _count + 1, Id = None };
        _count++;
    }

    /// <summary>Merges what was added, appends its ids, and is empty again.</summary>
    /// <param name="text">The normalised text that the characters lie in, with <see cref="PieceTable.Padding"/>.</param>
    /// <param name="ids">Where the ids go.</param>
    public void Flush(ReadOnlySpan<byte> text, List<int> ids)
    {
        if (_count == 0)
            return;
        _symbols[_count - 1].Next = None;
        for (int i = 0; i + 1 < _count; i++)
            Offer(text, i);
        while (_agenda.TryDequeue(out int id, out ulong key))
            Merge(text, (int)(uint)key, id);
        for (int i = 0; i != None; i = _symbols[i].Next)
            Emit(text, _symbols[i], ids);
        _count = 0;
    }

    /// <summary>Puts the pair of <paramref name="left"/> and its right neighbour on the agenda, if it makes a piece.</summary>
    private void Offer(ReadOnlySpan<byte> text, int left)
    {
        int right = _symbols[left].Next;
        if (right == None)
            return;
        int length = _symbols[left].Length + _symbols[right].Length;
        if (length > _pieces.LongestMergeable)
            return;
        int id = _pieces.Find(text, _symbols[left].Start, length);
        if (id < 0 || !_pieces[id].IsMergeable)
            return;
        if (_pieces[id].Type == PieceType.Unused)
            _unusedSplits[id] = _symbols[left].Length;
        _agenda.Enqueue(id, Key(_pieces[id].Score, left));
    }

    private void Merge(ReadOnlySpan<byte> text, int left, int id)
    {
        int right = _symbols[left].Next;
        // Stale if the left one is gone, or if either has grown: then the two are longer than the piece.
        if (_symbols[left].Length == 0 || right == None || _symbols[left].Length + _symbols[right].Length != _pieces[id].Length)
            return;
        _symbols[left].Length = _pieces[id].Length;
        _symbols[left].Id = id;
        _symbols[right].Length = 0;
        int next = _symbols[right].Next;
        _symbols[left].Next = next;
        if (next != None)
            _symbols[next].Previous = left;
        int previous = _symbols[left].Previous;
        if (previous != None)
            Offer(text, previous);
        Offer(text, left);
    }

    private void Emit(ReadOnlySpan<byte> text, Symbol symbol, List<int> ids)
    {
        int id = symbol.Id != None ? symbol.Id : _pieces.Find(text, symbol.Start, symbol.Length);
        if (id >= 0 && _unusedSplits.ContainsKey(id))
            TakeApart(text, symbol.Start, symbol.Length, ids);
        else
            EmitPiece(text, symbol.Start, symbol.Length, id, ids);
    }

    /// <summary>An UNUSED piece is given as the two parts it was merged from, and those likewise.</summary>
    private void TakeApart(ReadOnlySpan<byte> text, int start, int length, List<int> ids)
    {
        var parts = new Stack<(int Start, int Length)>([(start, length)]);
        while (parts.TryPop(out (int Start, int Length) part))
        {
            int id = _pieces.Find(text, part.Start, part.Length);
            if (id >= 0 && _unusedSplits.TryGetValue(id, out int left))
            {
                parts.Push((part.Start + left, part.Length - left));
                parts.Push((part.Start, left));
            }
            else
            {
                EmitPiece(text, part.Start, part.Length, id, ids);
            }
        }
    }

    private void EmitPiece(ReadOnlySpan<byte> text, int start, int length, int id, List<int> ids)
    {
        if (id >= 0 && _pieces[id].IsMergeable)
        {
            ids.Add(id);
            return;
        }

        foreach (byte b in text.Slice(start, length))
            ids.Add(model.ByteIds[b]);
    }

    /// <summary>Orders by score, highest first, then by place. A float's bits order as the number does once negative ones are flipped.</summary>
    private static ulong Key(float score, int left)
    {
        // Adding 0 makes −0 equal to 0.
        int bits = BitConverter.SingleToInt32Bits(score + 0f);
        uint ascending = (uint)bits ^ (bits < 0 ? uint.MaxValue : 0x8000_0000u);
        return ((ulong)~ascending << 32) | (uint)left;
    }
}
