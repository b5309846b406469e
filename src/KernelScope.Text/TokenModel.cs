namespace KernelScope.Text;

/// <summary>A vocabulary and how text is cut into it, without added tokens: a <c>tokenizer.model</c> or a <c>tokenizer.json</c>.</summary>
internal abstract class TokenModel
{
    /// <summary>The vocabulary; an id that is not used has a piece of type <see cref="PieceType.None"/>.</summary>
    public abstract PieceTable Pieces { get; }

    /// <summary>Ids of the special pieces; −1 where there is none.</summary>
    public abstract (int Bos, int Eos, int Pad, int Unknown) Special { get; }

    /// <summary>What the unknown piece decodes to.</summary>
    public abstract string UnknownSurface { get; }

    /// <summary>What becomes of a text before it is tokenized.</summary>
    public abstract ReplaceSteps Normalizer { get; }

    /// <summary>What becomes of a piece when it is decoded.</summary>
    public abstract ReplaceSteps Denormalizer { get; }

    /// <summary>Whether a run of byte pieces that is not valid UTF-8 as a whole decodes to one U+FFFD a byte.</summary>
    public abstract bool RunsAreWhole { get; }

    /// <summary>Appends the ids of a text.</summary>
    /// <param name="padded">The normalised text and <see cref="PieceTable.Padding"/> more bytes.</param>
    /// <param name="length">Of the text.</param>
    /// <param name="ids">Where they go.</param>
    public abstract void Encode(ReadOnlySpan<byte> padded, int length, List<int> ids);
}
