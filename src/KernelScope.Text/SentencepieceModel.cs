namespace KernelScope.Text;

/// <summary>
/// Text to ids as sentencepiece has it: user-defined symbols are matched first, longest first from the left, and never merge; the rest
/// merges by score (<see cref="BpeMerger"/>); a character that is not a piece becomes its bytes.
/// </summary>
internal sealed class SentencepieceModel(TokenizerModel model) : TokenModel
{
    private readonly SymbolMatcher _symbols = new(SymbolsOf(model.Pieces));
    private readonly JoinTable _joins = new(model.Pieces);

    public override PieceTable Pieces => model.Pieces;

    public override (int Bos, int Eos, int Pad, int Unknown) Special { get; } = (model.BosId, model.EosId, model.PadId, model.UnknownId);

    public override string UnknownSurface => model.UnknownSurface;

    public override ReplaceSteps Normalizer => ReplaceSteps.EscapeSpaces;

    public override ReplaceSteps Denormalizer => ReplaceSteps.RestoreSpaces;

    public override bool RunsAreWhole => false;

    public override void Encode(ReadOnlySpan<byte> padded, int length, List<int> ids)
    {
        var merger = new BpeMerger(model);
        for (int at = 0; at < length;)
        {
            int symbol = _symbols.LongestPrefix(padded[at..length]);
            if (symbol >= 0 || (at > 0 && !_joins.MayJoin(padded[at - 1], padded[at])))
                merger.Flush(padded, ids);
            int size = symbol >= 0 ? Pieces[symbol].Length : JoinTable.SizeOf(padded[at]);
            if (symbol >= 0)
                ids.Add(symbol);
            else
                merger.Add(at, size);
            at += size;
        }

        merger.Flush(padded, ids);
    }

    private static IEnumerable<(byte[] Text, int Id)> SymbolsOf(PieceTable pieces) =>
        Enumerable.Range(0, pieces.Count).Where(id => pieces[id].Type == PieceType.UserDefined)
            .Select(id => (pieces.Utf8(id).ToArray(), id));
}
