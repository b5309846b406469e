namespace KernelScope.Chat.Jinja;

/// <summary>Why a template cannot be read or run, in a sentence without its file.</summary>
internal sealed class TemplateException(string message, int line = 0) : Exception(message)
{
    /// <summary>Where, from 1; 0 where the place says nothing.</summary>
    public int Line => line;

    /// <summary>Whether the template itself refuses what it was given (<c>raise_exception</c>).</summary>
    public bool IsRefusal { get; init; }
}
