namespace KernelScope.Text;

/// <summary>One turn of a conversation.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
public sealed record ChatMessage
{
    /// <summary>A message of a role.</summary>
    /// <param name="role">Who speaks: "user", or "assistant" (which Gemma calls "model").</param>
    /// <param name="content">What is said.</param>
    public ChatMessage(string role, string content)
    {
        Role = role;
        Content = content;
    }

    /// <summary>Who speaks: "user", or "assistant" (which Gemma calls "model").</summary>
    public string Role { get; init; }

    /// <summary>What is said.</summary>
    public string Content { get; init; }
}
