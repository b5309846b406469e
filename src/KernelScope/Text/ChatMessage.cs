namespace KernelScope.Text;

/// <summary>One turn of a conversation.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Role">Who speaks: "user", or "assistant" (which Gemma calls "model").</param>
/// <param name="Content">What is said.</param>
public sealed record ChatMessage(string Role, string Content);
