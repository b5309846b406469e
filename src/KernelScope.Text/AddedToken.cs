namespace KernelScope.Text;

/// <summary>
/// A token that somebody added to a finished vocabulary, such as <c>&lt;|im_start|&gt;</c>. It is found whole in a text before anything is
/// tokenized. The flags are those of Hugging Face's tokenizers library and mean the same.
/// </summary>
internal sealed record AddedToken(int Id, string Content)
{
    /// <summary>Matched in the normalised text, itself normalised, after all others; false: matched in the text as it is.</summary>
    public bool Normalized { get; init; }

    /// <summary>Takes the white space before it.</summary>
    public bool LeftStrip { get; init; }

    /// <summary>Takes the white space after it.</summary>
    public bool RightStrip { get; init; }

    /// <summary>Counts only where neither side is a letter, a digit or an underscore.</summary>
    public bool SingleWord { get; init; }

    /// <summary>Whether it is found as any piece of text is: no flag makes it a special case.</summary>
    public bool IsPlain => !Normalized && !LeftStrip && !RightStrip && !SingleWord;
}
