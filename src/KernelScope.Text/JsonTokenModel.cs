namespace KernelScope.Text;

/// <summary>Text to ids as a <c>tokenizer.json</c> of type BPE says (<see cref="TokenizerJson"/> reads it).</summary>
internal sealed class JsonTokenModel(PieceTable pieces) : TokenModel
{
    public override PieceTable Pieces => pieces;

    /// <summary>Known once the names of the special tokens are (tokenizer_config.json).</summary>
    public override (int Bos, int Eos, int Pad, int Unknown) Special => SpecialIds;

    public (int Bos, int Eos, int Pad, int Unknown) SpecialIds { get; set; } = (-1, -1, -1, -1);

    public override string UnknownSurface => "";

    public override ReplaceSteps Normalizer => Normalization;

    public override ReplaceSteps Denormalizer => Decoding;

    public override bool RunsAreWhole => true;

    public required ReplaceSteps Normalization { get; init; }

    public required ReplaceSteps Decoding { get; init; }

    public required IReadOnlyList<TextSplit> Splits { get; init; }

    public required Dictionary<ulong, PairMerge> Merges { get; init; }

    /// <summary>Id of the piece of each byte, −1 where there is none; null without byte fallback.</summary>
    public required int[]? ByteIds { get; init; }

    /// <summary>What a character becomes that is not a piece and has no bytes; −1: nothing.</summary>
    public required int UnknownToken { get; init; }

    /// <summary>Whether neighbouring unknown characters become one token.</summary>
    public required bool FusesUnknown { get; init; }

    /// <summary>Whether a word that is a piece is that piece, whatever the merges say.</summary>
    public required bool IgnoresMerges { get; init; }

    public override void Encode(ReadOnlySpan<byte> padded, int length, List<int> ids)
    {
        var merger = new PairMerger(this);
        if (Splits.Count == 0)
        {
            merger.Encode(padded, 0, length, ids);
            return;
        }

        byte[] text = padded[..(length + PieceTable.Padding)].ToArray();
        IEnumerable<Range> words = [0..length];
        foreach (TextSplit split in Splits)
            words = words.SelectMany(word => split.Apply(text, word.Start.Value, word.End.Value));
        foreach (Range word in words)
            merger.Encode(text, word.Start.Value, word.End.Value, ids);
    }
}
