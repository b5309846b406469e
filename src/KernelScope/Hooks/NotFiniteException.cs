using System.Diagnostics.CodeAnalysis;

namespace KernelScope.Hooks;

/// <summary>The model computed values that are not finite numbers: no answer can come of them.</summary>
/// <param name="what">Which values, and where.</param>
internal sealed class NotFiniteException(string what)
    : InvalidOperationException($"{what} are not finite numbers: the weights or an edit produced values that are none.")
{
    /// <summary>Which values, and where.</summary>
    public string What => what;

    /// <summary>Refuses rows of values that are not.</summary>
    /// <param name="values">The rows, one after the other.</param>
    /// <param name="width">Values in a row.</param>
    /// <param name="what">What they are called.</param>
    /// <param name="firstPosition">The position of the first row.</param>
    /// <exception cref="NotFiniteException">It says which position is the first.</exception>
    public static void Refuse(ReadOnlySpan<float> values, int width, string what, int firstPosition)
    {
        int at = values.IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (at >= 0)
            Throw(what, firstPosition + (at / width));
    }

    /// <summary>The values at a position are not.</summary>
    [DoesNotReturn]
    public static void Throw(string what, int position) => throw new NotFiniteException($"{what}, position {position},");
}
