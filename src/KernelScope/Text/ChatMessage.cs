namespace KernelScope.Text;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">Who speaks: "user", or "assistant" (which Gemma calls "model").</param>
/// <param name="Content">What is said.</param>
public sealed record ChatMessage(string Role, string Content);
